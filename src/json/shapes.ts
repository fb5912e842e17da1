/**
 * Typed values of a JSON text: what Firecracker's request bodies and configuration files are made of. A shape reads one
 * value and refuses any other with the words of serde, in which clients of Firecracker know the errors; valibot, which
 * validates Volt's own configuration, sees neither positions nor the order of keys.
 */
import { JsonFault, JsonReader, type JsonNumber } from './reader.ts';
import { alternatives, compareBytes, debugString, formatFloat } from './text.ts';
import { readValue } from './value.ts';
import { eatColon, hasItem, readList, readObject } from './walk.ts';

export interface Shape<T> {
  read(reader: JsonReader): T;
  /** The value of a field that an object lacks; undefined: the field is needed. */
  readonly missing?: () => T;
  /** Whether a list of fields may end before this one, too. */
  readonly missingInList?: boolean;
}

/** The type of a shape's values. */
export type ValueOf<S> = S extends Shape<infer T> ? T : never;

/** Reads a whole text. Throws JsonFault. */
export function parseShape<T>(bytes: Uint8Array, shape: Shape<T>): T {
  const reader = new JsonReader(bytes);
  const value = shape.read(reader);
  reader.end();
  return value;
}

/** A string, described as `expected` in errors. */
function textShape<T>(expected: string, convert: (text: string) => T): Shape<T> {
  return {
    read(reader) {
      if (reader.peek() !== 0x22) throw wrongType(reader, expected);
      reader.eat();
      const text = reader.string();
      try {
        return convert(text);
      } catch (error) {
        throw reader.place(error);
      }
    },
  };
}

export const string = textShape('a string', (text) => text);
export const path = textShape('path string', (text) => text);
export const ipv4 = textShape('IPv4 address', (text) => {
  if (/^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(text)) return text;
  throw new JsonFault('invalid IPv4 address syntax');
});

/**
 * A string that `convert` checks; its error gets its position from the object around it, as from a deserializer that is
 * written by hand.
 */
export function checkedString<T>(convert: (text: string) => T): Shape<T> {
  return {
    read: (reader) => convert(string.read(reader)),
  };
}

export const bool: Shape<boolean> = {
  read(reader) {
    const byte = reader.peek();
    if (byte !== 0x74 && byte !== 0x66) throw wrongType(reader, 'a boolean');
    reader.eat();
    reader.word(byte === 0x74 ? 'rue' : 'alse');
    return byte === 0x74;
  },
};

function integer<T>(name: string, max: bigint, convert: (value: bigint) => T): Shape<T> {
  return {
    read(reader) {
      const byte = reader.peek();
      if (byte === undefined) throw reader.peekFault('EOF while parsing a value');
      if (byte !== 0x2d && (byte < 0x30 || byte > 0x39)) throw wrongType(reader, name);
      const number = reader.number();
      if (number.kind === 'float')
        throw reader.fault(`invalid type: ${describeNumber(number)}, expected ${name}`);
      if (number.value < 0n || number.value > max)
        throw reader.fault(`invalid value: ${describeNumber(number)}, expected ${name}`);
      return convert(number.value);
    },
  };
}

export const u8 = integer('u8', 0xffn, Number);
export const u16 = integer('u16', 0xffffn, Number);
export const u32 = integer('u32', 0xffff_ffffn, Number);
export const u64 = integer('u64', 2n ** 64n - 1n, (value) => value);
export const usize = integer('usize', 2n ** 64n - 1n, (value) => value);

/** A value that may be null or missing. */
export function option<T>(shape: Shape<T>): Shape<T | null> {
  return {
    read(reader) {
      if (reader.peek() !== 0x6e) return shape.read(reader);
      reader.eat();
      reader.word('ull');
      return null;
    },
    missing: () => null,
  };
}

/** A value that may be missing, but not null. */
export function withDefault<T>(shape: Shape<T>, value: () => T): Shape<T> {
  return { read: (reader) => shape.read(reader), missing: value, missingInList: true };
}

/** One of these words. */
export function variants<const T extends readonly string[]>(words: T): Shape<T[number]> {
  const convert = (word: string): T[number] => {
    if (words.includes(word)) return word;
    throw new JsonFault(`unknown variant \`${word}\`, expected ${alternatives(words)}`);
  };
  return {
    read(reader) {
      const byte = reader.peek();
      if (byte === undefined) throw reader.peekFault('EOF while parsing a value');
      if (byte === 0x22) return textShape('variant identifier', convert).read(reader);
      if (byte !== 0x7b) throw reader.peekFault('expected value');
      // `{"Word":null}` is the same word.
      reader.eat();
      if (reader.peek() !== 0x22) throw wrongType(reader, 'variant identifier');
      const word = textShape('variant identifier', convert).read(reader);
      eatColon(reader);
      if (reader.peek() !== 0x6e) throw wrongType(reader, 'unit');
      reader.eat();
      reader.word('ull');
      if (reader.peek() !== 0x7d) throw reader.fault('expected value');
      reader.eat();
      return word;
    },
  };
}

export function list<T>(item: Shape<T>): Shape<readonly T[]> {
  return {
    read(reader) {
      if (reader.peek() !== 0x5b) throw wrongType(reader, 'a sequence');
      return readList(reader, () => {
        const items: T[] = [];
        while (hasItem(reader, items.length === 0)) items.push(item.read(reader));
        return items;
      });
    },
  };
}

/** An object with any keys, in the order of the keys' bytes, in which Rust's BTreeMap holds them. */
export function sortedMap<T>(item: Shape<T>): Shape<Readonly<Record<string, T>>> {
  return {
    read(reader) {
      if (reader.peek() !== 0x7b) throw wrongType(reader, 'a map');
      const entries = new Map<string, T>();
      readObject(reader, (key) => {
        eatColon(reader);
        entries.set(key, item.read(reader));
      });
      return Object.fromEntries([...entries].sort(([a], [b]) => compareBytes(a, b)));
    },
  };
}

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Struct<F extends Fields> = { readonly [K in keyof F]: ValueOf<F[K]> };

export interface StructOptions {
  /** Keys that are not fields are skipped instead of refused. */
  readonly open?: boolean;
}

/** An object with these fields, or a list of their values in this order. `name` is that of Firecracker's structure. */
export function struct<const F extends Fields>(
  name: string,
  fields: F,
  { open = false }: StructOptions = {},
): Shape<Struct<F>> {
  const names = Object.keys(fields);
  return {
    read(reader) {
      const byte = reader.peek();
      try {
        if (byte === 0x5b) return readList(reader, () => readPositions(reader)) as Struct<F>;
        if (byte === 0x7b) return readFields(reader) as Struct<F>;
      } catch (error) {
        throw reader.place(error);
      }
      throw wrongType(reader, `struct ${name}`);
    },
  };

  function readFields(reader: JsonReader): Record<string, unknown> {
    const found: Record<string, unknown> = {};
    readObject(
      reader,
      (key) => {
        if (!Object.hasOwn(fields, key)) {
          if (!open)
            throw new JsonFault(
              names.length === 0
                ? `unknown field \`${key}\`, there are no fields`
                : `unknown field \`${key}\`, expected ${alternatives(names)}`,
            );
          eatColon(reader);
          readValue(reader);
          return;
        }
        if (Object.hasOwn(found, key)) throw new JsonFault(`duplicate field \`${key}\``);
        eatColon(reader);
        found[key] = fields[key]!.read(reader);
      },
      () => {
        for (const key of names) {
          if (Object.hasOwn(found, key)) continue;
          const { missing } = fields[key]!;
          if (!missing) throw new JsonFault(`missing field \`${key}\``);
          found[key] = missing();
        }
      },
    );
    return Object.fromEntries(names.map((key) => [key, found[key]]));
  }

  function readPositions(reader: JsonReader): Record<string, unknown> {
    const found: Record<string, unknown> = {};
    names.forEach((key, i) => {
      const field = fields[key]!;
      if (hasItem(reader, i === 0)) found[key] = field.read(reader);
      else if (field.missing && field.missingInList) found[key] = field.missing();
      else {
        const elements = names.length === 1 ? '1 element' : `${names.length} elements`;
        throw new JsonFault(`invalid length ${i}, expected struct ${name} with ${elements}`);
      }
    });
    return found;
  }
}

/** The fault of a value of another type, which is eaten up to where serde_json stops. */
function wrongType(reader: JsonReader, expected: string): JsonFault {
  const wrong = (what: string) => reader.fault(`invalid type: ${what}, expected ${expected}`);
  const byte = reader.peek();
  switch (byte) {
    case undefined:
      return reader.peekFault('EOF while parsing a value');
    case 0x6e:
      reader.eat();
      reader.word('ull');
      return wrong('null');
    case 0x74:
    case 0x66:
      return wrong(`boolean \`${bool.read(reader)}\``);
    case 0x22:
      reader.eat();
      return wrong(`string ${debugString(reader.string())}`);
    case 0x5b:
      return wrong('sequence');
    case 0x7b:
      return wrong('map');
    default:
      if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) return wrong(describeNumber(reader.number()));
      return reader.peekFault('expected value');
  }
}

function describeNumber(number: JsonNumber): string {
  return number.kind === 'integer'
    ? `integer \`${number.value}\``
    : `floating point \`${formatFloat(number.value)}\``;
}
