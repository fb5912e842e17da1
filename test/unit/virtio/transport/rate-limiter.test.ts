import { expect, test } from 'bun:test';
import { BUCKET_LEVEL } from '../../../../src/virtio/transport/bucket-level.ts';
import { RateLimiter, TokenBucket } from '../../../../src/virtio/transport/rate-limiter.ts';

test('a bucket lets through what it holds, then what comes in', () => {
  const bucket = new TokenBucket({ size: 100, burst: 0, refillMs: 1000 }, 0);
  bucket.take(100);

  const empty = bucket.delayMs(0);
  const later = bucket.delayMs(50);
  bucket.take(5);

  expect(empty).toBe(10);
  expect(later).toBe(0);
  expect(bucket.delayMs(50)).toBe(10);
});

test('a bucket never holds more than its size', () => {
  const bucket = new TokenBucket({ size: 10, burst: 0, refillMs: 1000 }, 0);
  bucket.delayMs(1_000_000);
  bucket.take(10);

  expect(bucket.delayMs(1_000_000)).toBe(100);
});

test('the burst is there once', () => {
  const bucket = new TokenBucket({ size: 10, burst: 30, refillMs: 1000 }, 0);
  bucket.take(30);
  const afterBurst = bucket.delayMs(0);
  bucket.take(10);

  expect(afterBurst).toBe(0);
  expect(bucket.delayMs(0)).toBe(100);
  bucket.delayMs(10_000);
  bucket.take(10);
  expect(bucket.delayMs(10_000)).toBe(100);
});

test('a request larger than the bucket passes, and is paid for afterwards', () => {
  const bucket = new TokenBucket({ size: 10, burst: 0, refillMs: 1000 }, 0);
  bucket.take(40);

  expect(bucket.delayMs(0)).toBe(3100);
});

test('both limits hold', () => {
  const bandwidth = { size: 1000, burst: 0, refillMs: 1000 };
  const ops = { size: 10, burst: 0, refillMs: 1000 };
  const limiter = new RateLimiter({ bandwidth, ops }, 0);
  limiter.charge(1500);
  const byBandwidth = limiter.delayMs(0);
  for (let i = 0; i < 30; i++) limiter.charge(0);

  expect(byBandwidth).toBe(501);
  expect(limiter.delayMs(0)).toBe(2200);
  expect(new RateLimiter({ bandwidth: undefined, ops: undefined }, 0).limited).toBe(false);
});

test('an update replaces the buckets that it gives, and leaves the others as they are', () => {
  const bucket = { size: 10, burst: 0, refillMs: 1000 };
  const limiter = new RateLimiter({ bandwidth: bucket, ops: { ...bucket, size: 1 } }, 0);
  limiter.charge(20);

  limiter.update({ bandwidth: null }, 0);
  const withOldOps = limiter.delayMs(0);
  limiter.update({ ops: { ...bucket, size: 2 } }, 0);

  expect(withOldOps).toBe(1000);
  expect(limiter.delayMs(0)).toBe(0);
});

test('a limiter goes on at its levels, as of the moment of the save', () => {
  const limits = {
    bandwidth: { size: 1000, burst: 50, refillMs: 1000 },
    ops: { size: 10, burst: 0, refillMs: 1000 },
  };
  const levels = new Float64Array(2 * BUCKET_LEVEL.count * 2).fill(NaN);
  const before = new RateLimiter(limits, 0);
  for (let i = 0; i < 12; i++) before.charge(100);
  before.save(levels, 1, 100);

  const after = new RateLimiter(limits, 5000);
  after.restore(levels, 1);

  expect(after.delayMs(5000)).toBe(before.delayMs(100));
  expect([...levels.subarray(8)]).toEqual([1000, 1000, -50, 0, 10, 1000, -1, 0]);
  expect([...levels.subarray(0, 8)]).toEqual(Array(8).fill(NaN));
});

test('a limiter of another size or rate is full, and has no more than it holds', () => {
  const levels = new Float64Array(2 * BUCKET_LEVEL.count).fill(NaN);
  new RateLimiter({ bandwidth: undefined, ops: { size: 10, burst: 5, refillMs: 1000 } }, 0).save(
    levels,
    0,
    0,
  );
  levels[BUCKET_LEVEL.count + BUCKET_LEVEL.tokens] = 1e9;
  const delayAfter = (operations: number, refillMs: number) => {
    const limiter = new RateLimiter({ bandwidth: undefined, ops: { size: 10, burst: 5, refillMs } }, 0);
    limiter.restore(levels, 0);
    for (let i = 0; i < operations; i++) limiter.charge(1);
    return limiter.delayMs(0);
  };

  expect([delayAfter(14, 1000), delayAfter(15, 1000), delayAfter(15, 2000)]).toEqual([0, 100, 200]);
});
