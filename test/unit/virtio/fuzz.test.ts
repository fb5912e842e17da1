import { expect, setDefaultTimeout, test } from 'bun:test';
import { createFuzzer } from '../../../scripts/fuzz/hostile-rings.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const ROUNDS = 20_000;

test('random rings are served or given up on, and reach nothing but RAM and disk', () => {
  const fuzzer = createFuzzer(20_261_121);

  for (let i = 0; i < ROUNDS; i++) fuzzer.round();

  const { gaveUp, requests, served } = fuzzer.counts;
  // All kinds of ends were reached, or the rings would not have been random enough.
  expect(gaveUp).toBeGreaterThan(ROUNDS / 10);
  expect(gaveUp).toBeLessThan(ROUNDS);
  expect(requests).toBeGreaterThan(ROUNDS / 10);
  expect(served).toBeGreaterThan(ROUNDS / 10);
});
