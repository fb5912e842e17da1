import { expect, test } from 'bun:test';
import { bytesAsSource, readUpTo } from '../../../src/binary/byte-source.ts';

const source = bytesAsSource(
  'ten',
  Uint8Array.from({ length: 10 }, (_, i) => i),
);

test('a source gives the bytes of a range', () => {
  expect(source.read(8, 2)).toEqual(Uint8Array.of(8, 9));
  expect(source.read(10, 0).length).toBe(0);
});

test.each([
  [9, 2],
  [-1, 1],
  [0, -1],
  [11, 0],
])('reading from %p for %p bytes is a RangeError', (offset, length) => {
  expect(() => source.read(offset, length)).toThrow(RangeError);
});

test('readUpTo stops at the end', () => {
  expect(readUpTo(source, 8, 100)).toEqual(Uint8Array.of(8, 9));
  expect(readUpTo(source, 100, 1).length).toBe(0);
});
