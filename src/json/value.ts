/** Any JSON value: the content of the metadata store. Numbers keep their kind, so that `1.0` comes back as `1.0`. */
import type { JsonReader } from './reader.ts';
import { compareBytes, formatFloat } from './text.ts';
import { eatColon, hasItem, readList, readObject } from './walk.ts';

export type JsonValue =
  | null
  | boolean
  | string
  | { readonly number: string }
  | readonly JsonValue[]
  | ReadonlyMap<string, JsonValue>;

export function readValue(reader: JsonReader): JsonValue {
  const byte = reader.peek();
  switch (byte) {
    case undefined:
      throw reader.peekFault('EOF while parsing a value');
    case 0x6e:
      reader.eat();
      reader.word('ull');
      return null;
    case 0x74:
      reader.eat();
      reader.word('rue');
      return true;
    case 0x66:
      reader.eat();
      reader.word('alse');
      return false;
    case 0x22:
      reader.eat();
      return reader.string();
    case 0x5b:
      return readList(reader, () => {
        const items: JsonValue[] = [];
        while (hasItem(reader, items.length === 0)) items.push(readValue(reader));
        return items;
      });
    case 0x7b: {
      const entries = new Map<string, JsonValue>();
      readObject(reader, (key) => {
        eatColon(reader);
        entries.set(key, readValue(reader));
      });
      return entries;
    }
    default: {
      if (byte !== 0x2d && (byte < 0x30 || byte > 0x39)) throw reader.peekFault('expected value');
      const number = reader.number();
      return { number: number.kind === 'integer' ? String(number.value) : formatFloat(number.value) };
    }
  }
}

/** The value as text without white space; keys in the order of their bytes, as Firecracker writes them. */
export function formatValue(value: JsonValue): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(formatValue).join(',')}]`;
  if (isObject(value)) {
    const entries = [...value].sort(([a], [b]) => compareBytes(a, b));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${formatValue(item)}`).join(',')}}`;
  }
  return value.number;
}

export function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

export function isObject(value: JsonValue): value is ReadonlyMap<string, JsonValue> {
  return value instanceof Map;
}
