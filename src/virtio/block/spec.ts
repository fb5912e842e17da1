/**
 * Disks in a configuration, in the shape of Firecracker's section `drives`. The keys `format`, `direct`,
 * `overlay`, `queues`, `locked` and `partial` are Volt's own.
 */
import * as v from 'valibot';
import { dropUndefined, readSettings } from '../../schema/flag-settings.ts';
import {
  filePath,
  flag,
  found,
  listOf,
  oneOf,
  optional,
  section,
  text,
  wholeNumber,
} from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/values.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { BLOCK_FEATURE } from './regs.ts';

const CACHE_MODES = ['Writeback', 'Writethrough', 'Unsafe'] as const;
const IO_ENGINES = ['Sync', 'Async'] as const;
const FORMATS = ['Raw'] as const;
const MAX_DISK_QUEUES = 16;

export interface BlockConfig {
  readonly kind: 'block';
  readonly id: string;
  readonly path: string;
  /** Copy-on-write file over `path`, which is then only read. */
  readonly overlay: string | undefined;
  /** undefined: raw, but an image that starts like a container format is refused. */
  readonly format: (typeof FORMATS)[number] | undefined;
  readonly readOnly: boolean;
  readonly root: boolean;
  /** Partition of the root disk that is the root file system; undefined: the whole disk. */
  readonly partuuid: string | undefined;
  /** Whether the file is locked against other machines. */
  readonly locked: boolean;
  /** Whether a file may be empty or end inside a sector; the guest sees its whole sectors. */
  readonly partial: boolean;
  readonly cache: (typeof CACHE_MODES)[number];
  readonly direct: boolean;
  readonly queues: number;
  /** undefined: Volt chooses. */
  readonly engine: (typeof IO_ENGINES)[number] | undefined;
  readonly limits: RateLimits;
}

/** A word of the kernel's command line. (Linux, init/do_mounts.c) */
const PartitionId = v.pipe(
  text,
  v.regex(/^[\w.-]{1,100}$/, (issue) => `${found(issue.input)} (expected the unique id of a partition)`),
);

const entries = () => ({
  drive_id: DeviceId,
  path_on_host: filePath,
  is_root_device: optional(flag, false),
  partuuid: optional(PartitionId),
  is_read_only: optional(flag, false),
  cache_type: optional(oneOf(CACHE_MODES), 'Writeback'),
  io_engine: optional(oneOf(IO_ENGINES)),
  rate_limiter: optional(RateLimiterSchema),
  format: optional(oneOf(FORMATS)),
  overlay: optional(filePath),
  direct: optional(flag, false),
  queues: optional(wholeNumber(1, MAX_DISK_QUEUES), 1),
  locked: optional(flag, true),
  partial: optional(flag, false),
});

const drive = () =>
  v.pipe(
    section(entries()),
    v.transform((each): BlockConfig => ({
      kind: 'block',
      id: each.drive_id,
      path: each.path_on_host,
      format: each.format,
      overlay: each.overlay,
      readOnly: each.is_read_only,
      root: each.is_root_device,
      partuuid: each.partuuid ?? undefined,
      locked: each.locked,
      partial: each.partial,
      cache: each.cache_type,
      direct: each.direct,
      queues: each.queues,
      engine: each.io_engine,
      limits: each.rate_limiter ?? NO_LIMITS,
    })),
  );

const FLAG_KEYS = [
  'path',
  'readonly',
  'root',
  'id',
  'format',
  'cache',
  'direct',
  'overlay',
  'queues',
  'bw',
  'iops',
  'engine',
];

/** `path=FILE,readonly,…`, or a bare path, which may contain commas. */
function parseFlag(value: string, index: number): JsonObject {
  if (!/(^|,)path=/.test(value)) return { drive_id: `disk${index}`, path_on_host: value };
  const settings = readSettings('--disk', value, FLAG_KEYS);
  return dropUndefined({
    drive_id: settings.text('id', 'NAME') ?? `disk${index}`,
    path_on_host: settings.text('path', 'FILE'),
    is_root_device: settings.present('root'),
    is_read_only: settings.present('readonly'),
    cache_type: settings.choice('cache', {
      writeback: 'Writeback',
      writethrough: 'Writethrough',
      unsafe: 'Unsafe',
    }),
    io_engine: settings.choice('engine', { sync: 'Sync', async: 'Async' }),
    format: settings.choice('format', { raw: 'Raw' }),
    direct: settings.present('direct'),
    overlay: settings.text('overlay', 'FILE'),
    queues: settings.quantity('queues', `a number from 1 to ${MAX_DISK_QUEUES}`),
    rate_limiter: settings.rateLimiter(),
  });
}

export const BLOCK = defineSpec<BlockConfig>({
  kind: 'block',
  section: 'drives',
  isList: true,
  entries,
  // The root disk comes first, so that Linux calls it vda.
  schema: () =>
    v.pipe(
      listOf(drive()),
      v.transform((disks) => [...disks].sort((a, b) => Number(b.root) - Number(a.root))),
    ),
  flag: {
    name: 'disk',
    value: '<settings>',
    help: 'a disk: FILE, or path=FILE,root,readonly,overlay=FILE,… (docs/disks.md); may be given again; without root the first one is the root',
    parse: parseFlag,
  },
  hostSide: {
    idKey: 'drive_id',
    keys: ['path_on_host', 'overlay', 'format', 'direct', 'io_engine', 'rate_limiter'],
  },
  rootWords({ root, readOnly, partuuid }) {
    if (!root) return undefined;
    return `root=${partuuid === undefined ? '/dev/vda' : `PARTUUID=${partuuid}`} ${readOnly ? 'ro' : 'rw'}`;
  },
  featureBits: BLOCK_FEATURE,
});
