/**
 * Token buckets with the semantics of Firecracker's `rate_limiter`. A bucket holds `size` tokens, refills
 * from empty in `refillMs`, and has `burst` additional tokens that are not refilled.
 *
 * A request may start when a token is left, even if it costs more tokens than there are. The balance becomes
 * negative and must recover before the next request. A request larger than the bucket therefore passes too,
 * and the average rate is correct.
 */
import { BUCKET_LEVEL } from './bucket-level.ts';

export interface TokenBucketConfig {
  readonly size: number;
  readonly burst: number;
  readonly refillMs: number;
}

export interface RateLimits {
  readonly bandwidth: TokenBucketConfig | undefined;
  readonly ops: TokenBucketConfig | undefined;
}

/** By bucket: a new one, null for no limit any more, undefined for no change. */
export interface LimitChange {
  readonly bandwidth?: TokenBucketConfig | null | undefined;
  readonly ops?: TokenBucketConfig | null | undefined;
}

/** A limiter has two buckets: of bytes and of operations. */
const LIMITER_NUMBERS = 2 * BUCKET_LEVEL.count;

export class TokenBucket {
  readonly #config: TokenBucketConfig;
  readonly #size: number;
  readonly #perMs: number;
  #burst: number;
  #tokens: number;
  #filledAt: number;

  /** `now` is in milliseconds, here and below. */
  constructor(config: TokenBucketConfig, now: number) {
    this.#config = config;
    this.#size = config.size;
    this.#perMs = config.size / config.refillMs;
    this.#burst = config.burst;
    this.#tokens = config.size;
    this.#filledAt = now;
  }

  /** Milliseconds until there is a token; 0 if there is one. */
  delayMs(now: number): number {
    this.#fill(now);
    if (this.#burst > 0 || this.#tokens > 0) return 0;
    // Waits for a whole token: the balance is often exactly 0, for which the delay would be 0 ms for ever.
    return (1 - this.#tokens) / this.#perMs;
  }

  take(tokens: number): void {
    const fromBurst = Math.min(this.#burst, tokens);
    this.#burst -= fromBurst;
    this.#tokens -= tokens - fromBurst;
  }

  save(levels: Float64Array, at: number, now: number): void {
    this.#fill(now);
    levels[at + BUCKET_LEVEL.size] = this.#size;
    levels[at + BUCKET_LEVEL.refillMs] = this.#config.refillMs;
    levels[at + BUCKET_LEVEL.tokens] = this.#tokens;
    levels[at + BUCKET_LEVEL.burst] = this.#burst;
  }

  /** Goes on at the level of the same bucket; one of another size or rate stays full. */
  restore(levels: Float64Array, at: number): void {
    const isSame =
      levels[at + BUCKET_LEVEL.size] === this.#size &&
      levels[at + BUCKET_LEVEL.refillMs] === this.#config.refillMs;
    if (!isSame) return;
    this.#tokens = Math.min(this.#size, levels[at + BUCKET_LEVEL.tokens]!);
    this.#burst = Math.min(this.#config.burst, levels[at + BUCKET_LEVEL.burst]!);
  }

  #fill(now: number): void {
    this.#tokens = Math.min(this.#size, this.#tokens + (now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
  }
}

/** A device's limits of bytes and operations. */
export class RateLimiter {
  #bandwidth: TokenBucket | undefined;
  #ops: TokenBucket | undefined;

  constructor(limits: RateLimits, now: number) {
    this.#bandwidth = limits.bandwidth && new TokenBucket(limits.bandwidth, now);
    this.#ops = limits.ops && new TokenBucket(limits.ops, now);
  }

  /** Replaces the buckets that are given; a new one is full. */
  update({ bandwidth, ops }: LimitChange, now: number): void {
    if (bandwidth !== undefined) this.#bandwidth = bandwidth ? new TokenBucket(bandwidth, now) : undefined;
    if (ops !== undefined) this.#ops = ops ? new TokenBucket(ops, now) : undefined;
  }

  /** Writes the levels of limiter `index` of its device. */
  save(levels: Float64Array, index: number, now: number): void {
    const at = index * LIMITER_NUMBERS;
    levels.fill(NaN, at, at + LIMITER_NUMBERS);
    this.#bandwidth?.save(levels, at, now);
    this.#ops?.save(levels, at + BUCKET_LEVEL.count, now);
  }

  restore(levels: Float64Array, index: number): void {
    const at = index * LIMITER_NUMBERS;
    this.#bandwidth?.restore(levels, at);
    this.#ops?.restore(levels, at + BUCKET_LEVEL.count);
  }

  get limited(): boolean {
    return this.#bandwidth !== undefined || this.#ops !== undefined;
  }

  /** Milliseconds that the next request has to wait; 0 if it may start. */
  delayMs(now: number): number {
    return Math.max(this.#bandwidth?.delayMs(now) ?? 0, this.#ops?.delayMs(now) ?? 0);
  }

  /** Counts one request of `bytes` bytes. */
  charge(bytes: number): void {
    this.#ops?.take(1);
    this.#bandwidth?.take(bytes);
  }
}
