/** Turns a paused device's shared state into a SavedDevice, and back for the machine that continues with it. */
import { TWO_POW_32, viewOf } from '../../binary/bytes.ts';
import { VoltError } from '../../volt-error.ts';
import { BLOCK_CONFIG } from '../block/regs.ts';
import { CONSOLE_CONFIG } from '../console/regs.ts';
import { PMEM_CONFIG } from '../pmem/regs.ts';
import { CONFIG_BYTES, type DeviceDescription } from '../transport/device.ts';
import { BUCKET_LEVEL, MAX_BUCKETS } from '../transport/bucket-level.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, type DeviceState } from '../transport/device-state.ts';
import { INTERRUPT, STATUS } from '../transport/mmio.regs.ts';
import type { SavedDevice, SavedQueue } from './saved-device.ts';
import type { DeviceConfig, DeviceKind } from './specs.ts';
import { featureNames } from './feature-names.ts';

const W = DEVICE_WORD;
const Q = QUEUE_WORD;

/** A device of this machine. */
interface DeviceHere {
  readonly config: Pick<DeviceConfig, 'kind' | 'id'>;
  readonly description: Pick<DeviceDescription, 'stateWords'>;
  readonly state: DeviceState;
}

type Pair = [low: number, high: number];

/** State of a device while its worker is paused or has not started. */
export function saveDevice(
  {
    config: { kind, id },
    description,
    state,
    failure,
  }: DeviceHere & { readonly failure: string | undefined },
  slot: number,
): SavedDevice {
  const { words, config, own } = state;
  const word = (index: number) => Atomics.load(words, index) >>> 0;
  const pair = (low: number): Pair => [word(low), word(low + 1)];
  const visible = (word(W.generation) & 1) * CONFIG_BYTES;
  // A restored device that has not started yet is active as soon as it does.
  const active = word(W.active) !== 0 || word(W.restored) !== 0;
  return {
    ...{ kind, id, slot },
    offered: pair(W.offeredLow),
    negotiated: pair(W.driverLow),
    status: word(W.status),
    interruptStatus: word(W.interruptStatus),
    selectors: {
      deviceFeatures: word(W.deviceFeaturesSel),
      driverFeatures: word(W.driverFeaturesSel),
      queue: word(W.queueSel),
    },
    pci: undefined,
    generation: word(W.generation),
    config: Buffer.from(config.slice(visible, visible + word(W.configBytes))).toString('base64'),
    active,
    failures: word(W.failures),
    failure: failure?.slice(0, 1000),
    queues: Array.from({ length: state.queueCount }, (_, queue): SavedQueue => {
      const at = (each: number) => queueWord(queue, each);
      return {
        size: word(at(Q.size)),
        ready: word(at(Q.ready)),
        descriptors: pair(at(Q.descriptorsLow)),
        driver: pair(at(Q.driverLow)),
        device: pair(at(Q.deviceLow)),
        next: word(at(Q.next)),
        wrap: word(at(Q.wrap)),
      };
    }),
    words: active
      ? Object.fromEntries((description.stateWords ?? []).map(({ name }, i) => [name, own[i]! >>> 0]))
      : {},
    buckets: saveBuckets(state),
  };
}

function saveBuckets({ levels }: DeviceState): SavedDevice['buckets'] {
  const L = BUCKET_LEVEL;
  const buckets = Array.from({ length: MAX_BUCKETS }, (_, i) => {
    const at = i * L.count;
    const [size, refillMs, tokens, burst] = [...levels.subarray(at, at + L.count)];
    return Number.isNaN(size!) ? null : { size: size!, refillMs: refillMs!, tokens: tokens!, burst: burst! };
  });
  return buckets.every((bucket) => bucket === null) ? undefined : buckets;
}

/** The device's worker gives them to its limiters. */
function restoreBuckets({ levels }: DeviceState, buckets: SavedDevice['buckets']): void {
  buckets?.forEach((bucket, i) => {
    if (bucket)
      levels.set([bucket.size, bucket.refillMs, bucket.tokens, bucket.burst], i * BUCKET_LEVEL.count);
  });
}

/** Throws VoltError 'config' unless the saved devices are those of the configuration. */
export function checkSavedDevices(configs: readonly DeviceConfig[], saved: readonly SavedDevice[]): void {
  const nameOf = (device: { readonly kind: string; readonly id: string } | undefined) =>
    device ? `${device.kind} ${device.id}` : 'none';
  for (let slot = 0; slot < Math.max(configs.length, saved.length); slot++) {
    const [here, there] = [configs[slot], saved[slot]];
    if (here && there && here.kind === there.kind && here.id === there.id && there.slot === slot) continue;
    throw new VoltError(
      'config',
      `Cannot restore the devices: number ${slot} is ${nameOf(here)} (expected ${nameOf(there)}, as in the snapshot)`,
    );
  }
}

/**
 * Gives a new device's state what its driver knows. Throws VoltError 'config' or 'host' where the device of
 * this machine is not the one that the driver knows; `state` is then of no use.
 */
export function restoreDevice({ config, description, state }: DeviceHere, saved: SavedDevice): void {
  const { words, own } = state;
  const { kind, id } = config;
  const bad = (code: 'config' | 'host', found: string) =>
    new VoltError(code, `Cannot restore device ${id} (${kind}): ${found}`);
  if (saved.queues.length !== state.queueCount)
    throw bad(
      'config',
      `it has ${state.queueCount} queues (expected ${saved.queues.length}, as in the snapshot)`,
    );
  const lacking = missingFeatures(kind, words, saved);
  if (lacking !== undefined)
    throw bad(
      'host',
      `its driver uses ${lacking}, which this host does not offer; restore it where it is offered`,
    );
  const set = (index: number, value: number) => Atomics.store(words, index, value);
  const setPair = (low: number, [lowHalf, highHalf]: Readonly<Pair>) => {
    set(low, lowHalf);
    set(low + 1, highHalf);
  };
  const change = restoreConfig(kind, state, Buffer.from(saved.config, 'base64'));
  if (change.problem !== undefined) throw bad('config', change.problem);
  const told = change.changed && (saved.status & STATUS.driverOkBit) !== 0;
  set(W.generation, saved.generation + (change.changed ? 1 : 0));
  setPair(W.driverLow, saved.negotiated);
  set(W.status, saved.status);
  set(W.interruptStatus, saved.interruptStatus | (told ? INTERRUPT.configChangeBit : 0));
  set(W.deviceFeaturesSel, saved.selectors.deviceFeatures);
  set(W.driverFeaturesSel, saved.selectors.driverFeatures);
  set(W.queueSel, saved.selectors.queue);
  set(W.failures, saved.failures);
  saved.queues.forEach((queue, index) => {
    const at = (each: number) => queueWord(index, each);
    set(at(Q.size), queue.size);
    set(at(Q.ready), queue.ready);
    setPair(at(Q.descriptorsLow), queue.descriptors);
    setPair(at(Q.driverLow), queue.driver);
    setPair(at(Q.deviceLow), queue.device);
    set(at(Q.next), queue.next);
    set(at(Q.wrap), queue.wrap);
  });
  restoreBuckets(state, saved.buckets);
  if (!saved.active) return;
  set(W.restored, 1);
  const stateWords = description.stateWords ?? [];
  for (const [index, { name, min, max }] of stateWords.entries()) {
    const value = Object.hasOwn(saved.words, name) ? saved.words[name]! : undefined;
    if (value === undefined || value < min || value > max)
      throw bad('config', `its word ${name} is ${value ?? 'missing'} (expected ${min} to ${max})`);
    own[index] = value;
  }
}

/** Negotiated features that the device does not offer, by name; undefined: none. */
function missingFeatures(kind: DeviceKind, words: Int32Array, saved: SavedDevice): string | undefined {
  // Before FEATURES_OK the driver may write anything; it is checked then. (§3.1.1)
  if (!(saved.status & STATUS.featuresOkBit)) return undefined;
  const missing: Pair = [
    saved.negotiated[0] & ~words[W.offeredLow]!,
    saved.negotiated[1] & ~words[W.offeredHigh]!,
  ];
  const names = featureNames(kind, missing);
  return names.length === 0 ? undefined : names.join(' and ');
}

/** Fields of a configuration space that a driver reads once and that may not change under it. */
interface FixedField {
  readonly name: string;
  readonly offset: number;
  readonly bytes: 4 | 8;
}

type ConfigRule = 'same' | 'saved' | 'new';

/**
 * What a restored device's configuration space is: the snapshot's, which this machine's must equal or which
 * replaces it, or this machine's, where drivers follow a change.
 */
const CONFIG_RULE: { readonly [Kind in DeviceKind]: ConfigRule } = {
  block: 'same',
  pmem: 'same',
  console: 'same',
  share: 'same',
  entropy: 'same',
  balloon: 'saved',
  mem: 'saved',
  net: 'new',
  vsock: 'new',
};

const FIXED_FIELDS: Partial<Record<DeviceKind, readonly FixedField[]>> = {
  block: [
    { name: 'size in sectors', offset: BLOCK_CONFIG.capacity, bytes: 8 },
    { name: 'block size', offset: BLOCK_CONFIG.blockSize, bytes: 4 },
  ],
  pmem: [
    { name: 'address', offset: PMEM_CONFIG.start, bytes: 8 },
    { name: 'size in bytes', offset: PMEM_CONFIG.bytes, bytes: 8 },
  ],
  console: [{ name: 'number of ports', offset: CONSOLE_CONFIG.maxPorts, bytes: 4 }],
};

function restoreConfig(
  kind: DeviceKind,
  { config, words }: DeviceState,
  saved: Uint8Array,
): { readonly changed: boolean; readonly problem?: string } {
  const bytes = words[W.configBytes]!;
  if (saved.length !== bytes)
    return {
      changed: false,
      problem: `its configuration space has ${bytes} bytes (expected ${saved.length})`,
    };
  const here = config.slice(0, bytes);
  const difference = here.findIndex((byte, i) => byte !== saved[i]);
  if (difference < 0) return { changed: false };
  switch (CONFIG_RULE[kind]) {
    case 'new':
      return { changed: true };
    case 'saved':
      config.set(saved, 0);
      config.set(saved, CONFIG_BYTES);
      return { changed: false };
    case 'same': {
      const field = FIXED_FIELDS[kind]?.find((each) => fieldOf(here, each) !== fieldOf(saved, each));
      const problem = field
        ? `its ${field.name} is ${fieldOf(here, field)} (expected ${fieldOf(saved, field)}, as in the snapshot)`
        : `its configuration space differs from the snapshot's at byte ${difference} (expected the same device)`;
      return { changed: false, problem };
    }
  }
}

function fieldOf(config: Uint8Array, { offset, bytes }: FixedField): number {
  const view = viewOf(config);
  const low = view.getUint32(offset, true);
  return bytes === 4 ? low : low + view.getUint32(offset + 4, true) * TWO_POW_32;
}
