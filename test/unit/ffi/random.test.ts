import { expect, test } from 'bun:test';
import { randomBytes } from '../../../src/ffi/random.ts';

test('all the bytes are random, and others each time', () => {
  const samples = Array.from({ length: 64 }, () => randomBytes(16));
  const seen = new Set(samples.map((sample) => Buffer.from(sample).toString('hex')));
  // Each position would be the same 64 times in a row by chance once in 2^504.
  const constant = samples[0]!.filter((byte, at) => samples.every((sample) => sample[at] === byte));

  expect(samples.map((sample) => sample.length)).toEqual(Array<number>(64).fill(16));
  expect(seen.size).toBe(64);
  expect([...constant]).toEqual([]);
});

test('more than come at once are refused', () => {
  expect(randomBytes(256).length).toBe(256);
  expect(() => randomBytes(257)).toThrow('Cannot get 257 random bytes at once');
});
