import { describe, expect, test } from 'bun:test';
import {
  readCrtRegister,
  selectCrtRegister,
  TEXT_CURSOR_WORD,
  writeCrtRegister,
} from '../../../src/chips/text-cursor.ts';

function newChip() {
  const words = new Int32Array(TEXT_CURSOR_WORD.size);
  return {
    read: (register: number) => {
      selectCrtRegister(words, register);
      return readCrtRegister(words);
    },
    write: (register: number, value: number) => {
      selectCrtRegister(words, register);
      writeCrtRegister(words, value);
    },
  };
}

describe('the text cursor', () => {
  test('is in the upper left corner at first', () => {
    const { read } = newChip();
    expect([0x0c, 0x0d, 0x0e, 0x0f].map(read)).toEqual([0, 0, 0, 0]);
  });

  test('stays where it is put, and so does the start of the screen', () => {
    const { read, write } = newChip();
    write(0x0e, 0x07);
    write(0x0f, 0xcf);
    write(0x0c, 0x12);
    write(0x0d, 0xff);
    write(0x0e, 0x06);

    expect([0x0c, 0x0d, 0x0e, 0x0f].map(read)).toEqual([0x12, 0xff, 0x06, 0xcf]);
  });

  test('is all there is of the controller: other registers read as ones and keep nothing', () => {
    const { read, write } = newChip();
    const others = Array.from({ length: 256 }, (_, i) => i).filter((i) => i < 0x0c || i > 0x0f);
    for (const register of others) write(register, 0x5a);

    expect(new Set(others.map(read))).toEqual(new Set([0xff]));
    expect([0x0c, 0x0d, 0x0e, 0x0f].map(read)).toEqual([0, 0, 0, 0]);
  });
});
