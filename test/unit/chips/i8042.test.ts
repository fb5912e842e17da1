import { describe, expect, test } from 'bun:test';
import {
  I8042_WORD,
  i8042Command,
  i8042Data,
  i8042ReadData,
  i8042ReadStatus,
  resetI8042,
} from '../../../src/chips/i8042.ts';

const OUTPUT_FULL = 0x01;
const SYSTEM = 0x04;

function createController(): Int32Array {
  const words = new Int32Array(I8042_WORD.size).fill(7);
  resetI8042(words);
  return words;
}

/** The answer to a command, with the status before and after it is read. */
function ask(words: Int32Array, command: number) {
  const reset = i8042Command(words, command);
  const before = i8042ReadStatus(words);
  const answer = i8042ReadData(words);
  return { reset, before, answer, after: i8042ReadStatus(words) };
}

test('after reset nothing waits to be read', () => {
  expect(i8042ReadStatus(createController())).toBe(SYSTEM);
});

test.each([
  ['the self-test passes', 0xaa, 0x55],
  ['the keyboard port is sound', 0xab, 0x00],
  ['the auxiliary port is stuck, so that nobody looks for a mouse', 0xa9, 0x02],
  ['the command byte has the keyboard disabled', 0x20, 0x50],
  ['the output port does not hold the reset line', 0xd0, 0x01],
])('%s', (_, command, answer) => {
  const waiting = SYSTEM | OUTPUT_FULL;
  expect(ask(createController(), command)).toEqual({ reset: false, before: waiting, answer, after: SYSTEM });
});

test('the command byte is written and read back', () => {
  const words = createController();
  i8042Command(words, 0x60);
  i8042Data(words, 0x47);
  expect(ask(words, 0x20).answer).toBe(0x47);
});

test('a command in between makes data no command byte', () => {
  const words = createController();
  i8042Command(words, 0x60);
  i8042Command(words, 0xad);
  i8042Data(words, 0x47);
  expect(ask(words, 0x20).answer).toBe(0x50);
});

test('data without a command goes nowhere, as to a keyboard that is not there', () => {
  const words = createController();
  expect(i8042Data(words, 0xff)).toBe(false);
  expect(i8042ReadStatus(words)).toBe(SYSTEM);
});

test('the auxiliary loop test fails', () => {
  const words = createController();
  i8042Command(words, 0xd3);
  i8042Data(words, 0x5a);
  expect(i8042ReadData(words)).not.toBe(0x5a);
});

test.each([0x01, 0xa7, 0xa8, 0xad, 0xae, 0xc0])('command %p is taken and answers nothing', (command) => {
  const words = createController();
  expect(i8042Command(words, command)).toBe(false);
  expect(i8042ReadStatus(words)).toBe(SYSTEM);
});

describe('the reset line', () => {
  test.each([0xfe, 0xf0, 0xfc])('is pulsed by command %p', (command) => {
    expect(i8042Command(createController(), command)).toBe(true);
  });

  test.each([0xff, 0xf1, 0xfd])('is not by command %p', (command) => {
    expect(i8042Command(createController(), command)).toBe(false);
  });

  test('is pulled by an output port without bit 0', () => {
    const words = createController();
    expect(i8042Command(words, 0xd1)).toBe(false);
    expect(i8042Data(words, 0x02)).toBe(true);
  });

  test('is not by an output port with it, as A20 handlers write', () => {
    const words = createController();
    i8042Command(words, 0xd1);
    expect(i8042Data(words, 0xdf)).toBe(false);
    expect(i8042Data(words, 0x00)).toBe(false);
  });

  test('is pulsed by what Linux does for reboot=k', () => {
    const words = createController();
    const busy = i8042ReadStatus(words) & 0x02;
    expect(busy).toBe(0);
    expect(i8042Command(words, 0xfe)).toBe(true);
  });
});
