/** Schemas of values that several devices' sections share. */
import * as v from 'valibot';
import type { RateLimits, TokenBucketConfig } from '../transport/rate-limiter.ts';
import { found, optional, section, text, wholeNumber } from '../../schema/values.ts';

const MAX_TOKENS = 2 ** 53 - 1;
const MAX_REFILL_MS = 24 * 3600 * 1000;

const BucketSchema = v.pipe(
  section({
    size: wholeNumber(0, MAX_TOKENS),
    one_time_burst: optional(wholeNumber(0, MAX_TOKENS)),
    refill_time: wholeNumber(0, MAX_REFILL_MS, ' ms'),
  }),
  // As in Firecracker, a bucket of size 0 or refill time 0 is no limit.
  v.transform(({ size, one_time_burst, refill_time }): TokenBucketConfig | undefined =>
    size === 0 || refill_time === 0 ? undefined : { size, burst: one_time_burst ?? 0, refillMs: refill_time },
  ),
);

export const NO_LIMITS: RateLimits = { bandwidth: undefined, ops: undefined };

export const RateLimiterSchema = v.pipe(
  section({ bandwidth: optional(BucketSchema), ops: optional(BucketSchema) }),
  v.transform(({ bandwidth, ops }): RateLimits => ({
    bandwidth: bandwidth ?? undefined,
    ops: ops ?? undefined,
  })),
);

/** A device id. It appears in file names and on terminals. */
export const DeviceId = v.pipe(
  text,
  v.regex(
    /^(?!\.{1,2}$)[\w.-]{1,64}$/,
    (issue) => `${found(issue.input)} (expected up to 64 letters, digits, _ . or -)`,
  ),
);
