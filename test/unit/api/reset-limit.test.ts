/** Which guests that reset themselves are given up, and which are not. */
import { expect, test } from 'bun:test';
import { ResetLimit } from '../../../src/api/reset-limit.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

/** Number of the run, from 1, at whose end the guest is given up; undefined: never. */
function givenUpAfter(runs: readonly (number | 'used')[]): number | undefined {
  const limit = new ResetLimit();
  const index = runs.findIndex((run) =>
    run === 'used' ? limit.noteReset(SECOND, true) : limit.noteReset(run, false),
  );
  return index < 0 ? undefined : index + 1;
}

test.each([
  ['at once', 5],
  ['after three seconds', 3 * SECOND],
  ['after a minute, as with panic=60', MINUTE],
  ['after nine minutes', 9 * MINUTE],
])('a guest that resets itself %s, every time, is given up at the fifth reset', (_, runMs) => {
  expect(givenUpAfter(Array(100).fill(runMs))).toBe(5);
});

test.each([
  ['every day', DAY],
  ['every quarter of an hour', 15 * MINUTE],
])('a guest that resets itself %s goes on', (_, runMs) => {
  expect(givenUpAfter(Array(10_000).fill(runMs))).toBeUndefined();
});

test('an installation that resets the guest a few times is no reason', () => {
  expect(
    givenUpAfter([5 * MINUTE, MINUTE, MINUTE, MINUTE, DAY, MINUTE, MINUTE, MINUTE, MINUTE, DAY]),
  ).toBeUndefined();
});

test('a guest that was up and no longer comes up is given up', () => {
  expect(givenUpAfter([DAY, DAY, ...Array(10).fill(SECOND)])).toBe(7);
});

test('somebody who types at the console sees for himself', () => {
  expect(givenUpAfter([1, 1, 1, 'used', 1, 1, 1, 1])).toBeUndefined();
  expect(givenUpAfter([1, 1, 1, 'used', 1, 1, 1, 1, 1])).toBe(9);
});

test('the reason says how long it took, and what to do', () => {
  const limit = new ResetLimit();
  const reasons = Array.from({ length: 5 }, () => limit.noteReset(2.5 * SECOND, false));
  expect(reasons.at(-1)).toBe(
    'the guest has reset itself 5 times within 13 s; ending it because it never stayed up for 10 minutes; use --reboot always to let it continue, or --no-reboot to end it at the first reset',
  );
});
