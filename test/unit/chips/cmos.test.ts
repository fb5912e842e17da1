import { describe, expect, test } from 'bun:test';
import { CMOS_WORD, cmosRead, cmosSelect } from '../../../src/chips/cmos.ts';
import { GIB, MIB } from '../../../src/machine/address.ts';

function readByte(register: number, { now = 0, lowMemory = 512 * MIB } = {}): number {
  const words = new Int32Array(CMOS_WORD.size);
  cmosSelect(words, register);
  return cmosRead(words, now, lowMemory);
}

const readWord = (low: number, high: number, lowMemory: number) =>
  readByte(low, { lowMemory }) | (readByte(high, { lowMemory }) << 8);

describe('the clock shows UTC in BCD, 24-hour mode', () => {
  const CLOCK = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];

  test.each([
    ['1970-01-01T00:00:00Z', [0x00, 0x00, 0x00, 5, 0x01, 0x01, 0x70, 0x19]],
    ['1999-12-31T23:59:59Z', [0x59, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19]],
    ['2000-02-29T12:34:56Z', [0x56, 0x34, 0x12, 3, 0x29, 0x02, 0x00, 0x20]],
    ['2026-03-09T08:07:05.999Z', [0x05, 0x07, 0x08, 2, 0x09, 0x03, 0x26, 0x20]],
  ])('%s', (time, expected) => {
    const now = Date.parse(time);
    expect(CLOCK.map((register) => readByte(register, { now }))).toEqual(expected);
  });

  test('every time reads as two decimal digits', () => {
    const times = Array.from({ length: 500 }, (_, i) => i * 123_456_789_01);
    const bytes = times.flatMap((now) => CLOCK.map((register) => readByte(register, { now })));
    expect(bytes.filter((byte) => (byte & 0xf) > 9 || byte >> 4 > 9)).toEqual([]);
  });

  test('status registers say: no update in progress, 24-hour BCD, no interrupt, battery good', () => {
    expect([0x0a, 0x0b, 0x0c, 0x0d].map((register) => readByte(register))).toEqual([0x26, 0x02, 0x00, 0x80]);
  });

  test('alarms read as 0', () => {
    expect([0x01, 0x03, 0x05].map((register) => readByte(register, { now: Date.now() }))).toEqual([0, 0, 0]);
  });
});

describe('memory sizes', () => {
  test('base memory is 640 KiB', () => {
    expect(readWord(0x15, 0x16, 512 * MIB)).toBe(640);
  });

  test.each([
    [32 * MIB, 31 * 1024],
    [64 * MIB, 63 * 1024],
    [512 * MIB, 63 * 1024],
    [3 * GIB, 63 * 1024],
  ])('extended memory of %p bytes is %p KiB, up to 64 MiB, in both places', (lowMemory, kib) => {
    expect(readWord(0x17, 0x18, lowMemory)).toBe(kib);
    expect(readWord(0x30, 0x31, lowMemory)).toBe(kib);
  });

  test.each([
    [32 * MIB, 256],
    [512 * MIB, 7936],
    [3 * GIB, 48_896],
  ])('memory of %p bytes above 16 MiB is %p times 64 KiB', (lowMemory, units) => {
    expect(readWord(0x34, 0x35, lowMemory)).toBe(units);
  });
});

test('the NMI mask in the index changes nothing', () => {
  expect(readByte(0x8d)).toBe(0x80);
});

test('every register reads as a byte, and unused ones as 0', () => {
  const bytes = Array.from({ length: 128 }, (_, register) => readByte(register, { now: Date.now() }));
  expect(bytes.filter((byte) => byte !== (byte & 0xff))).toEqual([]);
  expect([0x0e, 0x0f, 0x10, 0x7f].map((register) => bytes[register])).toEqual([0, 0, 0, 0]);
});
