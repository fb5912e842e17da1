import { expect, test } from 'bun:test';
import { bitsFor, bitsOf, withBits } from '../../../src/binary/bits.ts';
import { seededRandom } from '../support/random.ts';

test('bitsFor is the width of a field that numbers so many things', () => {
  const widths = [1, 2, 3, 4, 5, 8, 9, 254, 255, 256, 257].map(bitsFor);
  expect(widths).toEqual([0, 1, 2, 2, 3, 3, 4, 8, 8, 8, 9]);
});

test('withBits replaces a field and leaves the rest', () => {
  expect(withBits(0xffff_ffff, 23, 16, 0)).toBe(0xff00_ffff);
  expect(withBits(0, 31, 24, 0xfe)).toBe(0xfe00_0000);
  expect(withBits(0x8000_0000, 31, 31, 1)).toBe(0x8000_0000);
  expect(withBits(0x1234_5678, 31, 0, 0xffff_ffff)).toBe(0xffff_ffff);
});

test('withBits ignores the part of a field that does not fit', () => {
  expect(withBits(0, 7, 0, 0x1ff)).toBe(0xff);
});

test('bitsOf reads fields as unsigned numbers, up to all 32 bits', () => {
  expect(bitsOf(0xfe00_0000, 31, 24)).toBe(0xfe);
  expect(bitsOf(0xffff_ffff, 31, 0)).toBe(0xffff_ffff);
  expect(bitsOf(0x8000_0000, 31, 31)).toBe(1);
});

test('what withBits stores, bitsOf reads', () => {
  const random = seededRandom(1);
  for (let i = 0; i < 2000; i++) {
    const low = random.int(0, 31);
    const high = random.int(low, 31);
    const field = random.int(0, 2 ** (high - low + 1) - 1);
    const before = random.int(0, 0xffff_ffff);

    const after = withBits(before, high, low, field);

    expect(bitsOf(after, high, low)).toBe(field);
    expect(withBits(after, high, low, bitsOf(before, high, low))).toBe(before);
  }
});
