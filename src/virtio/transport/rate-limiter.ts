/**
 * Token buckets, as Firecracker's rate_limiter describes them: a bucket holds `size` tokens, is full again `refillMs`
 * after it was empty, and has `burst` more that do not come back.
 *
 * Who finds a token left may go, even when it takes more than there are: the debt is paid before the next one goes.
 * So a request larger than the bucket passes too, and the rate is right in the long run.
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

export class TokenBucket {
  readonly #size: number;
  readonly #perMs: number;
  #burst: number;
  #tokens: number;
  #filledAt: number;

  /** `now` in milliseconds, here and below. */
  constructor(config: TokenBucketConfig, now: number) {
    this.#size = config.size;
    this.#perMs = config.size / config.refillMs;
    this.#burst = config.burst;
    this.#tokens = config.size;
    this.#filledAt = now;
  }

  /** How long until there is a token; 0: now. */
  delayMs(now: number): number {
    this.#fill(now);
    if (this.#burst > 0 || this.#tokens > 0) return 0;
    // A whole token, for balances of exactly 0 are common and would say "in 0 ms" again and again.
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

/** Both limits of a device. */
export class RateLimiter {
  readonly #bandwidth: TokenBucket | undefined;
  readonly #ops: TokenBucket | undefined;

  constructor(limits: RateLimits, now: number) {
    this.#bandwidth = limits.bandwidth && new TokenBucket(limits.bandwidth, now);
    this.#ops = limits.ops && new TokenBucket(limits.ops, now);
  }

  get limited(): boolean {
    return this.#bandwidth !== undefined || this.#ops !== undefined;
  }

  /** How long the next request has to wait; 0: not at all. */
  delayMs(now: number): number {
    return Math.max(this.#bandwidth?.delayMs(now) ?? 0, this.#ops?.delayMs(now) ?? 0);
  }

  /** Counts one request of `bytes` bytes. */
  charge(bytes: number): void {
    this.#ops?.take(1);
    this.#bandwidth?.take(bytes);
  }
}
