/**
 * Virtio devices in a configuration, in the shape of Firecracker's --config-file where Firecracker has them. Of a
 * drive, the keys `direct`, `overlay` and `queues` are Volt's own, and so is the section `shares`.
 */
import * as v from 'valibot';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { ISA_IRQ_COUNT, VIRTIO_GSIS } from '../../machine/irqs.ts';
import { VoltError } from '../../volt-error.ts';
import { flag, found, oneOf, section, text, wholeNumber } from '../../schema/values.ts';
import { CONSOLE_KEYS, ConsolesSchema, type ConsoleDeviceConfig } from '../console/spec.ts';
import { DeviceId, NO_LIMITS, RateLimiterSchema } from './device-values.ts';
import { BALLOON, BalloonSchema, type BalloonConfig } from '../balloon/spec.ts';
import { PMEM_KEYS, PmemSchema, type PmemConfig } from '../pmem/spec.ts';
import { SHARE_KEYS, ShareSchema, type ShareConfig } from '../share/spec.ts';
import { VSOCK, VsockSchema, type VsockConfig } from '../vsock/spec.ts';
import { INTERFACE_KEYS, InterfaceSchema, type NetConfig } from '../net/spec.ts';

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

export type DeviceConfig =
  | BlockConfig
  | EntropyConfig
  | NetConfig
  | VsockConfig
  | BalloonConfig
  | ConsoleDeviceConfig
  | ShareConfig
  | PmemConfig;

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

/** Keys that are known in each item of a section that is a list. */
export const LIST_KEYS: Readonly<Record<string, ReadonlySet<string>>> = {
  drives: new Set(Object.keys(DRIVE)),
  'network-interfaces': INTERFACE_KEYS,
  'virtio-consoles': CONSOLE_KEYS,
  shares: SHARE_KEYS,
  pmem: PMEM_KEYS,
};

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

const ENTROPY = { rate_limiter: v.optional(v.nullable(RateLimiterSchema)) } as const;

const EntropySchema = v.pipe(
  section(ENTROPY),
  v.transform(({ rate_limiter }): EntropyConfig => ({
    kind: 'entropy',
    id: 'rng',
    limits: rate_limiter ?? NO_LIMITS,
  })),
);

function listOf<const T extends v.GenericSchema>(item: T) {
  return v.optional(
    v.array(item, (issue) => `${found(issue.input)} (expected a list)`),
    [],
  );
}

/** Keys that are known in each section that is one device. */
export const DEVICE_KEYS: Readonly<Record<string, object>> = {
  entropy: ENTROPY,
  vsock: VSOCK,
  balloon: BALLOON,
};

/** Sections of the configuration that describe devices. */
export const DEVICE_SECTIONS = {
  drives: listOf(DriveSchema),
  'network-interfaces': listOf(InterfaceSchema),
  'virtio-consoles': ConsolesSchema,
  shares: listOf(ShareSchema),
  pmem: listOf(PmemSchema),
  entropy: v.optional(v.nullable(EntropySchema)),
  vsock: v.optional(v.nullable(VsockSchema)),
  balloon: v.optional(v.nullable(BalloonSchema)),
} as const;

interface DeviceSections {
  readonly drives: readonly BlockConfig[];
  readonly 'network-interfaces': readonly NetConfig[];
  readonly 'virtio-consoles': ConsoleDeviceConfig | undefined;
  readonly shares: readonly ShareConfig[];
  readonly pmem: readonly PmemConfig[];
  readonly entropy?: EntropyConfig | null | undefined;
  readonly vsock?: VsockConfig | null | undefined;
  readonly balloon?: BalloonConfig | null | undefined;
}

/** The devices in the order of their places; the root disk comes first, so that Linux calls it vda. */
export function planDevices({ drives, pmem, shares, entropy, vsock, balloon, ...rest }: DeviceSections): {
  devices: readonly DeviceConfig[];
  /** What the kernel's command line says about the root disk. */
  rootWords: string;
} {
  const root = [...drives, ...pmem].find((device) => device.root);
  const disks = [...drives].sort((a, b) => Number(b.root) - Number(a.root));
  return {
    devices: [
      ...disks,
      ...pmem,
      ...rest['network-interfaces'],
      ...shares,
      ...[vsock, rest['virtio-consoles'], balloon, entropy].filter((each) => !!each),
    ],
    rootWords: root ? `root=${rootDevice(root, pmem)} ${root.readOnly ? 'ro' : 'rw'}` : '',
  };
}

/** Linux counts persistent memory in the order of its devices. */
function rootDevice(root: BlockConfig | PmemConfig, pmem: readonly PmemConfig[]): string {
  return root.kind === 'block' ? '/dev/vda' : `/dev/pmem${pmem.indexOf(root)}`;
}

const TOGETHER = 'these devices';

/** Throws VoltError 'config' for devices that cannot be together, or not be told of. */
export function checkDevices(
  { devices, acpi }: { readonly devices: readonly DeviceConfig[]; readonly acpi: boolean },
  nameOf: (path: string) => string,
): void {
  const fail = (what: string, problem: string) => new VoltError('config', `Cannot use ${what}: ${problem}`);
  const ids = devices.map(({ id }) => id);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined) throw fail(TOGETHER, `two devices are called ${twice} (expected different ids)`);
  const tags = devices.flatMap((device) => (device.kind === 'share' ? [device.tag] : []));
  const twiceTag = tags.find((tag, i) => tags.indexOf(tag) !== i);
  if (twiceTag !== undefined)
    throw fail(nameOf('shares'), `two shares have the tag ${twiceTag} (expected different tags)`);
  if (devices.filter((device) => 'root' in device && device.root).length > 1)
    throw fail(TOGETHER, 'two of them are the root device (expected one)');
  if (devices.length > VIRTIO_GSIS.length) {
    throw fail(
      TOGETHER,
      `${devices.length} virtio devices (expected at most ${VIRTIO_GSIS.length}: one interrupt each)`,
    );
  }
  const isa = VIRTIO_GSIS.filter((gsi) => gsi < ISA_IRQ_COUNT).length;
  if (!acpi && devices.length > isa) {
    throw fail(
      TOGETHER,
      `${devices.length} virtio devices without ACPI (expected at most ${isa}: MP tables know ISA interrupts alone)`,
    );
  }
}
