/** The entropy device in a configuration, in the shape of Firecracker's section `entropy`. */
import * as v from 'valibot';
import { optional, section } from '../../schema/values.ts';
import { defineSpec } from '../host/device-spec.ts';
import { NO_LIMITS, RateLimiterSchema } from '../host/values.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';

export interface EntropyConfig {
  readonly kind: 'entropy';
  readonly id: string;
  readonly limits: RateLimits;
}

const entries = () => ({ rate_limiter: optional(RateLimiterSchema) });

const schema = () =>
  v.pipe(
    section(entries()),
    v.transform(({ rate_limiter }): readonly EntropyConfig[] => [
      { kind: 'entropy', id: 'rng', limits: rate_limiter ?? NO_LIMITS },
    ]),
  );

export const ENTROPY = defineSpec<EntropyConfig>({
  kind: 'entropy',
  section: 'entropy',
  isList: false,
  entries,
  schema,
  flag: {
    name: 'rng',
    value: undefined,
    help: "an entropy device, fed by the host's random number generator",
    parse: () => ({}),
  },
});
