/** How the levels of a device's rate limits lie in the state that its threads share. Pure. */

/**
 * Level of one token bucket of a rate limiter, NaN without one. `size` and `refillMs` say of which bucket the others
 * are.
 */
export const BUCKET_LEVEL = { size: 0, refillMs: 1, tokens: 2, burst: 3, count: 4 } as const;
/** A network interface has two limiters, other devices one, and each two buckets. */
export const MAX_BUCKETS = 4;
