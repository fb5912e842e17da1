/**
 * Token buckets with the semantics of Firecracker's `rate_limiter`. A bucket holds `size` tokens, refills
 * from empty in `refillMs`, and has `burst` additional tokens that are not refilled.
 *
 * A request may start when a token is left, even if it costs more tokens than there are. The balance becomes
 * negative and must recover before the next request. A request larger than the bucket therefore passes too,
 * and the average rate is correct.
 */
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

export class TokenBucket {
  readonly #size: number;
  readonly #perMs: number;
  #burst: number;
  #tokens: number;
  #filledAt: number;

  /** `now` is in milliseconds, here and below. */
  constructor(config: TokenBucketConfig, now: number) {
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
