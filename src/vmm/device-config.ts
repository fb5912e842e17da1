/**
 * Virtio devices in a configuration, in the shape of Firecracker's --config-file where Firecracker has them. Of a
 * drive, the keys `direct`, `overlay` and `queues` are Volt's own.
 */
import * as v from 'valibot';
import type { RateLimits, TokenBucketFacts } from '../devices/virtio/rate-limiter.ts';
import { VIRTIO_GSIS } from '../machine/irqs.ts';
import { VoltError } from '../volt-error.ts';
import { flag, found, oneOf, section, text, wholeNumber } from './config-values.ts';

export const CACHE_MODES = ['Writeback', 'Writethrough', 'Unsafe'] as const;
export const IO_ENGINES = ['Sync', 'Async'] as const;
export const MAX_DISK_QUEUES = 16;

export interface BlockConfig {
  readonly kind: 'block';
  readonly id: string;
  readonly path: string;
  /** Copy-on-write file in front of `path`, which then is only read. */
  readonly overlay: string | undefined;
  readonly readOnly: boolean;
  readonly root: boolean;
  readonly cache: (typeof CACHE_MODES)[number];
  readonly direct: boolean;
  readonly queues: number;
  /** undefined: Volt chooses. */
  readonly engine: (typeof IO_ENGINES)[number] | undefined;
  readonly limits: RateLimits;
}

export interface EntropyConfig {
  readonly kind: 'entropy';
  readonly id: string;
  readonly limits: RateLimits;
}

export type DeviceConfig = BlockConfig | EntropyConfig;

const MAX_TOKENS = 2 ** 53 - 1;
const MAX_REFILL_MS = 24 * 3600 * 1000;

const BucketSchema = v.pipe(
  section({
    size: wholeNumber(0, MAX_TOKENS),
    one_time_burst: v.optional(v.nullable(wholeNumber(0, MAX_TOKENS))),
    refill_time: wholeNumber(0, MAX_REFILL_MS, ' ms'),
  }),
  // A bucket without size or time is no limit: so Firecracker reads it.
  v.transform(({ size, one_time_burst, refill_time }): TokenBucketFacts | undefined =>
    size === 0 || refill_time === 0 ? undefined : { size, burst: one_time_burst ?? 0, refillMs: refill_time },
  ),
);

const NO_LIMITS: RateLimits = { bandwidth: undefined, ops: undefined };

export const RateLimiterSchema = v.pipe(
  section({ bandwidth: v.optional(v.nullable(BucketSchema)), ops: v.optional(v.nullable(BucketSchema)) }),
  v.transform(({ bandwidth, ops }): RateLimits => ({
    bandwidth: bandwidth ?? undefined,
    ops: ops ?? undefined,
  })),
);

/** What appears in file names and on terminals. */
const DeviceId = v.pipe(
  text,
  v.regex(/^[\w.-]{1,64}$/, (issue) => `${found(issue.input)} (expected up to 64 letters, digits, _ . or -)`),
);

const DRIVE = {
  drive_id: DeviceId,
  path_on_host: text,
  is_root_device: v.optional(flag, false),
  is_read_only: v.optional(flag, false),
  cache_type: v.optional(oneOf(CACHE_MODES), 'Writeback'),
  io_engine: v.optional(oneOf(IO_ENGINES)),
  rate_limiter: v.optional(v.nullable(RateLimiterSchema)),
  overlay: v.optional(text),
  direct: v.optional(flag, false),
  queues: v.optional(wholeNumber(1, MAX_DISK_QUEUES), 1),
} as const;

export const DRIVE_KEYS: ReadonlySet<string> = new Set(Object.keys(DRIVE));

const DriveSchema = v.pipe(
  section(DRIVE),
  v.transform((drive): BlockConfig => ({
    kind: 'block',
    id: drive.drive_id,
    path: drive.path_on_host,
    overlay: drive.overlay,
    readOnly: drive.is_read_only,
    root: drive.is_root_device,
    cache: drive.cache_type,
    direct: drive.direct,
    queues: drive.queues,
    engine: drive.io_engine,
    limits: drive.rate_limiter ?? NO_LIMITS,
  })),
);

const EntropySchema = v.pipe(
  section({ rate_limiter: v.optional(v.nullable(RateLimiterSchema)) }),
  v.transform(({ rate_limiter }): EntropyConfig => ({
    kind: 'entropy',
    id: 'rng',
    limits: rate_limiter ?? NO_LIMITS,
  })),
);

/** Sections of the configuration that describe devices. */
export const DEVICE_SECTIONS = {
  drives: v.optional(
    v.array(DriveSchema, (issue) => `${found(issue.input)} (expected a list)`),
    [],
  ),
  entropy: v.optional(v.nullable(EntropySchema)),
} as const;

interface DeviceSections {
  readonly drives: readonly BlockConfig[];
  readonly entropy?: EntropyConfig | null | undefined;
}

/** The devices in the order of their places; the root disk comes first, so that Linux calls it vda. */
export function planDevices({ drives, entropy }: DeviceSections): {
  devices: readonly DeviceConfig[];
  /** What the kernel's command line says about the root disk. */
  rootWords: string;
} {
  const root = drives.find((drive) => drive.root);
  const disks = [...drives].sort((a, b) => Number(b.root) - Number(a.root));
  return {
    devices: [...disks, ...(entropy ? [entropy] : [])],
    rootWords: root ? `root=/dev/vda ${root.readOnly ? 'ro' : 'rw'}` : '',
  };
}

/** Throws VoltError 'config' for devices that cannot be together. */
export function checkDevices(devices: readonly DeviceConfig[], nameOf: (path: string) => string): void {
  const fail = (path: string, problem: string) =>
    new VoltError('config', `Cannot use ${nameOf(path)}: ${problem}`);
  const ids = devices.map(({ id }) => id);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined) throw fail('drives', `two devices are called ${twice} (expected different ids)`);
  if (devices.filter((device) => device.kind === 'block' && device.root).length > 1)
    throw fail('drives', 'two drives are the root device (expected one)');
  if (devices.length > VIRTIO_GSIS.length) {
    throw fail(
      'drives',
      `${devices.length} virtio devices (expected at most ${VIRTIO_GSIS.length}: one interrupt each)`,
    );
  }
}
