/** The balloon in a configuration, in the shape of Firecracker's section `balloon`. */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import { flag, optional, section, wholeNumber } from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { BALLOON_FEATURE } from './regs.ts';
import { balloonMetrics } from './status.ts';

export interface BalloonConfig {
  readonly kind: 'balloon';
  readonly id: string;
  /** Initial target size. */
  readonly mib: number;
  readonly deflateOnOom: boolean;
  /** 0: no statistics. */
  readonly statsSeconds: number;
}

/** 16 TiB: page numbers are u32. */
export const MAX_BALLOON_MIB = 2 ** 24 - 1;
const MAX_STATS_SECONDS = 65_535;

const entries = () => ({
  amount_mib: optional(wholeNumber(0, MAX_BALLOON_MIB, ' MiB'), 0),
  deflate_on_oom: optional(flag, false),
  stats_polling_interval_s: optional(wholeNumber(0, MAX_STATS_SECONDS, ' s'), 0),
});

const schema = () =>
  v.pipe(
    section(entries()),
    v.transform((each): readonly BalloonConfig[] => [
      {
        kind: 'balloon',
        id: 'balloon',
        mib: each.amount_mib,
        deflateOnOom: each.deflate_on_oom,
        statsSeconds: each.stats_polling_interval_s,
      },
    ]),
  );

function parseFlag(value: string): JsonObject {
  const settings = readSettings('--balloon', value, ['size', 'stats', 'deflate-on-oom']);
  return dropUndefined({
    amount_mib: settings.mib('size'),
    stats_polling_interval_s: settings.quantity('stats', 'seconds between statistics'),
    deflate_on_oom: settings.present('deflate-on-oom'),
  });
}

export const BALLOON = defineSpec<BalloonConfig>({
  kind: 'balloon',
  section: 'balloon',
  isList: false,
  entries,
  schema,
  flag: {
    name: 'balloon',
    value: '[settings]',
    help: 'a memory balloon with an initial size=SIZE (default: 0M), stats=SECONDS, deflate-on-oom',
    parse: parseFlag,
  },
  featureBits: BALLOON_FEATURE,
  metrics: balloonMetrics,
});
