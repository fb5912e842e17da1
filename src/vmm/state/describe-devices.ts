/** Decodes saved virtio devices: status, features by name, queues. Pure. (Virtual I/O Device 1.2) */
import { hex } from '../../binary/bytes.ts';
import { PAGE_BYTES } from '../../machine/address.ts';
import { LAYOUT } from '../../machine/layout.ts';
import { featureNames } from '../../virtio/host/feature-names.ts';
import type { SavedDevice } from '../../virtio/host/saved-device.ts';
import { SPECS, type DeviceKind } from '../../virtio/host/specs.ts';
import { STATUS } from '../../virtio/transport/mmio.regs.ts';

export interface QueueDescription {
  readonly queue: number;
  readonly size: number;
  readonly ready: boolean;
  /** Guest physical addresses, hexadecimal, of the descriptor area, driver area and device area. */
  readonly descriptors: string;
  readonly driver: string;
  readonly device: string;
  /** Index of the next chain that the device takes, and its wrap counter, which packed rings have. */
  readonly next: number;
  readonly wrap: number;
}

export interface DeviceDescription {
  readonly id: string;
  readonly kind: string;
  readonly address: number;
  /** Names of the status bits. (§2.1) */
  readonly status: readonly string[];
  readonly interruptStatus: number;
  readonly active: boolean;
  readonly features: readonly string[];
  readonly failures: number;
  readonly failure: string | undefined;
  /** Those that the driver has set up. */
  readonly queues: readonly QueueDescription[];
  readonly words: Readonly<Record<string, number>>;
  /** Levels of its rate limits. */
  readonly buckets: readonly BucketDescription[];
}

export interface BucketDescription {
  readonly limit: string;
  readonly size: number;
  readonly refillMs: number;
  readonly tokens: number;
  readonly burst: number;
}

const STATUS_NAMES = [
  ['ACKNOWLEDGE', STATUS.acknowledgeBit],
  ['DRIVER', STATUS.driverBit],
  ['FEATURES_OK', STATUS.featuresOkBit],
  ['DRIVER_OK', STATUS.driverOkBit],
  ['NEEDS_RESET', STATUS.needsResetBit],
  ['FAILED', STATUS.failedBit],
] as const;

export function describeDevice(device: SavedDevice): DeviceDescription {
  const { id, kind, slot, status, interruptStatus, active, negotiated, failures, failure, words } = device;
  return {
    ...{ id, kind, interruptStatus, active, failures, failure, words },
    address: LAYOUT.virtio.address + slot * PAGE_BYTES,
    status: STATUS_NAMES.filter(([, bit]) => (status & bit) !== 0).map(([name]) => name),
    features: isKnown(kind) ? featureNames(kind, negotiated) : [],
    buckets: (device.buckets ?? []).flatMap((bucket, i) =>
      bucket === null ? [] : [{ limit: bucketName(kind, i), ...bucket }],
    ),
    queues: device.queues.flatMap((queue, i) =>
      queue.size === 0 && queue.ready === 0 ? [] : [describeQueue(queue, i)],
    ),
  };
}

/** A network interface limits what it receives and what it sends, others have one limit. */
function bucketName(kind: string, index: number): string {
  const direction = kind === 'net' ? ['received ', 'sent '][index >> 1] : '';
  return `${direction}${index % 2 === 0 ? 'bandwidth' : 'operations'}`;
}

/** The name is a file's. */
function isKnown(kind: string): kind is DeviceKind {
  return Object.hasOwn(SPECS, kind);
}

/** Exact for all 64 bits. */
function address([low, high]: readonly [number, number]): string {
  return hex((BigInt(high) << 32n) | BigInt(low));
}

function describeQueue(queue: SavedDevice['queues'][number], index: number): QueueDescription {
  return {
    queue: index,
    size: queue.size,
    ready: queue.ready === 1,
    descriptors: address(queue.descriptors),
    driver: address(queue.driver),
    device: address(queue.device),
    next: queue.next,
    wrap: queue.wrap,
  };
}
