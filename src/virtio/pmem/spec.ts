/** Persistent memory in a configuration, in the shape of Firecracker's section `pmem`. */
import * as v from 'valibot';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { flag, section, text } from '../../schema/values.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/device-values.ts';

export interface PmemConfig {
  readonly kind: 'pmem';
  readonly id: string;
  readonly path: string;
  /** The guest's writes never reach the file. */
  readonly readOnly: boolean;
  readonly root: boolean;
  /** Of flushes, each of which counts as many bytes as the file has. */
  readonly limits: RateLimits;
}

const PMEM = {
  id: DeviceId,
  path_on_host: text,
  root_device: v.optional(flag, false),
  read_only: v.optional(flag, false),
  rate_limiter: v.optional(v.nullable(RateLimiterSchema)),
} as const;

export const PMEM_KEYS: ReadonlySet<string> = new Set(Object.keys(PMEM));

export const PmemSchema = v.pipe(
  section(PMEM),
  v.transform((each): PmemConfig => ({
    kind: 'pmem',
    id: each.id,
    path: each.path_on_host,
    readOnly: each.read_only,
    root: each.root_device,
    limits: each.rate_limiter ?? NO_LIMITS,
  })),
);
