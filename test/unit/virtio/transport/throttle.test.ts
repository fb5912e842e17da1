import { expect, test } from 'bun:test';
import { RateLimiter } from '../../../../src/virtio/transport/rate-limiter.ts';
import { Throttle } from '../../../../src/virtio/transport/throttle.ts';
import { createTestClock } from '../device-bench.ts';

const ONE_IN_100_MS = { bandwidth: undefined, ops: { size: 1, burst: 0, refillMs: 100 } };

test('a throttle is active from the check that fails until it resumes its device', () => {
  const clock = createTestClock();
  const resumed: number[] = [];
  const throttle = new Throttle(new RateLimiter(ONE_IN_100_MS, clock.now()), clock, () =>
    resumed.push(clock.now()),
  );

  throttle.charge(512);

  expect([throttle.isActive, throttle.check(), throttle.isActive]).toEqual([false, true, true]);
  clock.advance(100);
  expect([resumed, throttle.isActive, throttle.check()]).toEqual([[100], false, false]);
});

test('a throttle that is cancelled does not resume', () => {
  const clock = createTestClock();
  let resumed = 0;
  const throttle = new Throttle(new RateLimiter(ONE_IN_100_MS, clock.now()), clock, () => resumed++);
  throttle.charge(512);
  throttle.check();

  throttle.cancel();
  clock.advance(1000);

  expect([resumed, throttle.isActive]).toEqual([0, false]);
});

test('a throttle without limits never holds anything back', () => {
  const throttle = new Throttle(
    new RateLimiter({ bandwidth: undefined, ops: undefined }, 0),
    createTestClock(),
    () => {},
  );

  throttle.charge(2 ** 40);

  expect([throttle.check(), throttle.isActive]).toEqual([false, false]);
});
