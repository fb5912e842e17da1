/** The brackets, commas and colons of lists and objects, with serde_json's faults. */
import { JsonFault, type JsonReader } from './reader.ts';

/** Calls `act` between the brackets of a list. An error without a position gets that behind the list's end, if it is next. */
export function readList<T>(reader: JsonReader, act: () => T): T {
  reader.enter();
  reader.eat();
  let value: T;
  try {
    value = act();
  } catch (error) {
    if (error instanceof JsonFault && error.line === 0) eatListEnd(reader);
    throw reader.place(error);
  }
  const byte = reader.peek();
  if (byte === undefined) throw reader.peekFault('EOF while parsing a list');
  if (byte === 0x2c) {
    reader.eat();
    throw reader.peekFault(reader.peek() === 0x5d ? 'trailing comma' : 'trailing characters');
  }
  if (byte !== 0x5d) throw reader.peekFault('trailing characters');
  reader.eat();
  reader.leave();
  return value;
}

/** Eats what serde_json eats behind an item at fault. */
function eatListEnd(reader: JsonReader): void {
  const byte = reader.peek();
  if (byte !== 0x5d && byte !== 0x2c) return;
  reader.eat();
  if (byte === 0x2c) reader.peek();
}

/** Whether another item of a list follows; eats the comma before it. */
export function hasItem(reader: JsonReader, isFirst: boolean): boolean {
  const byte = reader.peek();
  if (byte === 0x5d) return false;
  if (byte === undefined) throw reader.peekFault('EOF while parsing a list');
  if (isFirst) return true;
  if (byte !== 0x2c) throw reader.peekFault('expected `,` or `]`');
  reader.eat();
  const next = reader.peek();
  if (next === 0x5d) throw reader.peekFault('trailing comma');
  if (next === undefined) throw reader.peekFault('EOF while parsing a value');
  return true;
}

/**
 * Calls `act` behind each key of an object; it eats the colon and the value. `finish` is called in front of the closing
 * brace. An error without a position gets that behind the brace, if it is next.
 */
export function readObject(reader: JsonReader, act: (key: string) => void, finish = () => {}): void {
  reader.enter();
  reader.eat();
  try {
    for (let isFirst = true; hasKey(reader, isFirst); isFirst = false) {
      reader.eat();
      act(reader.string());
    }
    finish();
  } catch (error) {
    if (error instanceof JsonFault && error.line === 0 && reader.peek() === 0x7d) reader.eat();
    throw reader.place(error);
  }
  reader.peek();
  reader.eat();
  reader.leave();
}

function hasKey(reader: JsonReader, isFirst: boolean): boolean {
  let byte = reader.peek();
  if (byte === 0x7d) return false;
  if (byte === undefined) throw reader.peekFault('EOF while parsing an object');
  if (!isFirst) {
    if (byte !== 0x2c) throw reader.peekFault('expected `,` or `}`');
    reader.eat();
    byte = reader.peek();
    if (byte === 0x7d) throw reader.peekFault('trailing comma');
    if (byte === undefined) throw reader.peekFault('EOF while parsing a value');
  }
  if (byte !== 0x22) throw reader.peekFault('key must be a string');
  return true;
}

export function eatColon(reader: JsonReader): void {
  const byte = reader.peek();
  if (byte === undefined) throw reader.peekFault('EOF while parsing an object');
  if (byte !== 0x3a) throw reader.peekFault('expected `:`');
  reader.eat();
}
