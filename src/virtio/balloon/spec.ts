/** The balloon in a configuration, in the shape of Firecracker's section `balloon`. */
import * as v from 'valibot';
import { flag, section, wholeNumber } from '../../schema/values.ts';

export interface BalloonConfig {
  readonly kind: 'balloon';
  readonly id: string;
  /** What the guest is to give back at its start. */
  readonly mib: number;
  readonly deflateOnOom: boolean;
  /** 0: no statistics. */
  readonly statsSeconds: number;
}

/** Page numbers are u32: 16 TiB. */
export const MAX_BALLOON_MIB = 2 ** 24 - 1;
const MAX_STATS_SECONDS = 65_535;

export const BALLOON = {
  amount_mib: v.optional(wholeNumber(0, MAX_BALLOON_MIB, ' MiB'), 0),
  deflate_on_oom: v.optional(flag, false),
  stats_polling_interval_s: v.optional(wholeNumber(0, MAX_STATS_SECONDS, ' s'), 0),
} as const;

export const BalloonSchema = v.pipe(
  section(BALLOON),
  v.transform((each): BalloonConfig => ({
    kind: 'balloon',
    id: 'balloon',
    mib: each.amount_mib,
    deflateOnOom: each.deflate_on_oom,
    statsSeconds: each.stats_polling_interval_s,
  })),
);
