/**
 * Disks in a configuration, in the shape of Firecracker's section `drives`. The keys `format`, `direct`,
 * `overlay`, `queues`, `locked`, `partial`, `secret` and `monitor` are Volt's own.
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
  queueCount,
  section,
  text,
  wholeNumber,
} from '../../schema/values.ts';
import { defineSpec, type JsonObject } from '../host/device-spec.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from '../host/values.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { backEndFormat } from './back-end/image-source.ts';
import { BLOCK_FEATURE } from './regs.ts';

const CACHE_MODES = ['Writeback', 'Writethrough', 'Unsafe'] as const;
const IO_ENGINES = ['Sync', 'Async'] as const;
const FORMATS = ['Raw', 'Qcow2', 'Qed', 'Vmdk', 'Vhdx', 'Vhd', 'Vdi', 'Luks'] as const;
const FORMAT_OF_WORD = Object.fromEntries(FORMATS.map((format) => [format.toLowerCase(), format]));
const MAX_DISK_QUEUES = 16;
const DEFAULT_TIMEOUT_S = 30;
const MAX_TIMEOUT_S = 24 * 3600;

/** A running vhost-user back-end, or an image for which Volt starts qemu-storage-daemon. */
type BackEndConfig =
  | { readonly kind: 'socket' }
  | {
      readonly kind: 'image';
      readonly format: (typeof FORMATS)[number];
      readonly secret: string | undefined;
      readonly monitor: string | undefined;
    };

export interface BlockConfig {
  readonly kind: 'block';
  readonly id: string;
  /** The image, or the socket of its back-end. */
  readonly path: string;
  /** The process that serves the disk; undefined: Volt. */
  readonly backEnd?: BackEndConfig | undefined;
  /** With `backEnd`: how long requests wait for one that is lost, before they fail. */
  readonly timeoutMs?: number | undefined;
  /** Copy-on-write file over `path`, which is then only read. */
  readonly overlay: string | undefined;
  /** undefined: raw, but an image that starts like a container format is refused. */
  readonly format: 'Raw' | undefined;
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
  path_on_host: optional(filePath),
  socket: optional(filePath),
  is_root_device: optional(flag, false),
  partuuid: optional(PartitionId),
  is_read_only: optional(flag, false),
  cache_type: optional(oneOf(CACHE_MODES), 'Writeback'),
  io_engine: optional(oneOf(IO_ENGINES)),
  rate_limiter: optional(RateLimiterSchema),
  format: optional(oneOf(FORMATS)),
  overlay: optional(filePath),
  secret: optional(filePath),
  monitor: optional(filePath),
  timeout_s: optional(wholeNumber(0, MAX_TIMEOUT_S, ' s')),
  direct: optional(flag, false),
  queues: optional(queueCount(MAX_DISK_QUEUES), 1),
  locked: optional(flag, true),
  partial: optional(flag, false),
});

const drive = () =>
  v.pipe(
    section(entries()),
    v.check(
      ({ path_on_host: path, socket }) => isGiven(path) !== isGiven(socket),
      () => 'it names no disk or two (expected either path_on_host or socket)',
    ),
    v.check(
      ({ socket, format }) => !isGiven(socket) || !isGiven(format),
      () => 'format does not apply to a socket; its back-end knows the format',
    ),
    v.check(
      (each) => backEndOf(each) !== undefined || !isGiven(each.timeout_s),
      () => 'timeout_s is for disks that another process serves (socket, or an image that is not raw)',
    ),
    v.check(
      (each) => backEndOf(each)?.kind === 'image' || !(isGiven(each.secret) || isGiven(each.monitor)),
      () => 'secret and monitor are for images that qemu-storage-daemon serves; give their format',
    ),
    v.transform((each): BlockConfig => ({
      kind: 'block',
      id: each.drive_id,
      path: (each.path_on_host ?? each.socket)!,
      backEnd: backEndOf(each),
      ...timeoutOf(each),
      format: each.format === 'Raw' ? 'Raw' : undefined,
      overlay: each.overlay,
      readOnly: each.is_read_only,
      root: each.is_root_device,
      partuuid: each.partuuid ?? undefined,
      locked: each.locked,
      partial: each.partial,
      cache: each.cache_type,
      direct: each.direct,
      queues: each.queues === 'auto' ? 1 : each.queues,
      engine: each.io_engine,
      limits: each.rate_limiter ?? NO_LIMITS,
    })),
  );

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function timeoutOf(
  each: Parameters<typeof backEndOf>[0] & { readonly timeout_s?: number | null | undefined },
) {
  return backEndOf(each) ? { timeoutMs: 1000 * (each.timeout_s ?? DEFAULT_TIMEOUT_S) } : {};
}

function backEndOf(each: {
  readonly path_on_host?: string | null | undefined;
  readonly socket?: string | null | undefined;
  readonly format?: (typeof FORMATS)[number] | null | undefined;
  readonly secret?: string | null | undefined;
  readonly monitor?: string | null | undefined;
}): BackEndConfig | undefined {
  if (isGiven(each.socket)) return { kind: 'socket' };
  const format = backEndFormat(each.path_on_host ?? '', each.format ?? undefined);
  if (format === undefined) return undefined;
  return { kind: 'image', format, secret: each.secret ?? undefined, monitor: each.monitor ?? undefined };
}

const FLAG_KEYS = [
  'path',
  'socket',
  'secret',
  'monitor',
  'timeout',
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

/** `path=FILE,readonly,…`, `socket=PATH,…`, or a bare path, which may contain commas. */
function parseFlag(value: string, index: number): JsonObject {
  if (!/(^|,)(path|socket)=/.test(value)) return { drive_id: `disk${index}`, path_on_host: value };
  const settings = readSettings('--disk', value, FLAG_KEYS);
  return dropUndefined({
    drive_id: settings.text('id', 'NAME') ?? `disk${index}`,
    path_on_host: settings.text('path', 'FILE'),
    socket: settings.text('socket', 'PATH'),
    secret: settings.text('secret', 'FILE'),
    monitor: settings.text('monitor', 'PATH'),
    timeout_s: settings.quantity('timeout', 'a number of seconds'),
    is_root_device: settings.present('root'),
    is_read_only: settings.present('readonly'),
    cache_type: settings.choice('cache', {
      writeback: 'Writeback',
      writethrough: 'Writethrough',
      unsafe: 'Unsafe',
    }),
    io_engine: settings.choice('engine', { sync: 'Sync', async: 'Async' }),
    format: settings.choice('format', FORMAT_OF_WORD),
    direct: settings.present('direct'),
    overlay: settings.text('overlay', 'FILE'),
    queues: settings.quantityOrAuto('queues', `a number from 1 to ${MAX_DISK_QUEUES}`),
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
    help: 'a disk: FILE (raw, qcow2, vmdk, …), nbd://HOST/EXPORT, or path=FILE,root,readonly,overlay=FILE,… or socket=PATH (docs/disks.md); may be given again; without root the first one is the root',
    parse: parseFlag,
  },
  hostSide: {
    idKey: 'drive_id',
    keys: [
      'path_on_host',
      'socket',
      'overlay',
      'format',
      'secret',
      'monitor',
      'timeout_s',
      'direct',
      'io_engine',
      'rate_limiter',
    ],
  },
  sandboxNeeds: ({ backEnd }) =>
    backEnd === undefined ? [] : backEnd.kind === 'socket' ? ['share', 'vsock'] : ['share'],
  rootWords({ root, readOnly, partuuid }) {
    if (!root) return undefined;
    return `root=${partuuid === undefined ? '/dev/vda' : `PARTUUID=${partuuid}`} ${readOnly ? 'ro' : 'rw'}`;
  },
  featureBits: BLOCK_FEATURE,
});
