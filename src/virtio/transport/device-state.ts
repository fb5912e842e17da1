/**
 * State of one device, shared by the vCPU workers and the device worker: words, configuration space and
 * counters in one SharedArrayBuffer.
 *
 * vCPU workers write everything that the driver writes, under the bus lock. The device worker sets bits of
 * `status` and `interruptStatus` (both with Atomics) and owns `active`, `restored`, `generation`, `syncDone`,
 * `failures`, the queues' positions, the device's own words, the levels and the counters. The configuration space is stored twice; bit 0 of `generation` selects the copy that the
 * driver reads. A change of several bytes and its new generation therefore become visible together, without
 * a lock. (Virtual I/O Device 1.2 §2.5.2)
 */
import { CONFIG_BYTES, type DeviceDescription } from './device.ts';
import { BUCKET_LEVEL, MAX_BUCKETS } from './bucket-level.ts';
import { FEATURE } from './mmio.regs.ts';

export const DEVICE_WORD = {
  type: 0,
  queueCount: 1,
  offeredLow: 2,
  offeredHigh: 3,
  status: 4,
  deviceFeaturesSel: 5,
  driverFeaturesSel: 6,
  driverLow: 7,
  driverHigh: 8,
  queueSel: 9,
  interruptStatus: 10,
  generation: 11,
  configBytes: 12,
  writableOffset: 13,
  writableBytes: 14,
  /** Counts device resets by the driver. An activation from before the last reset is no longer valid. */
  resets: 15,
  /** Requests by vCPUs that the device worker examine these words, and the last request it completed. */
  syncWanted: 16,
  /** Futex word: vCPUs wait on it. */
  syncDone: 17,
  /** Counts the driver's writes to the configuration space. */
  configWrites: 18,
  /** 1 while the device worker serves the device. */
  active: 19,
  /** How often the device entered DEVICE_NEEDS_RESET. */
  failures: 20,
  /** 1: a vhost back-end processes the virtqueues. */
  servedByBackend: 21,
  /** 1: the device was saved while active, and continues at its queues' positions. */
  restored: 22,
  /** Eventfd that asks the device worker to examine these words. */
  controlFd: 23,
  /** Of a PCI function: 1 while MSI-X is enabled, and 1 while the driver forbids the use of the interrupt pin. */
  msixEnabled: 24,
  pinDisabled: 25,
  /** Of a PCI function: eventfds of the interrupt pin and of configuration changes. */
  pinFd: 26,
  configFd: 27,
  /** Of a PCI function: 1 + vector of configuration changes; 0: none. */
  configVector: 28,
  size: 29,
} as const;

/**
 * Words of one queue; they follow the device's words. An address is two words, low half first. A device reset clears
 * those from `size` on.
 */
export const QUEUE_WORD = {
  sizeMax: 0,
  /** Eventfd that notifies the queue. */
  notifyFd: 1,
  /** Of a PCI function: eventfd of the queue's used buffer notifications. */
  callFd: 2,
  size: 3,
  ready: 4,
  descriptorsLow: 5,
  descriptorsHigh: 6,
  driverLow: 7,
  driverHigh: 8,
  deviceLow: 9,
  deviceHigh: 10,
  /** `QueuePosition`, written when the device is paused. */
  next: 11,
  wrap: 12,
  /** Of a PCI function: 1 + vector of used buffer notifications; 0: none. */
  vector: 13,
  wordCount: 14,
} as const;

/**
 * Counters of one queue. Only the device worker writes them. `kicks` counts available buffer notifications.
 */
export const QUEUE_COUNTER = {
  kicks: 0,
  chains: 1,
  bytesOut: 2,
  bytesIn: 3,
  interrupts: 4,
  errors: 5,
  size: 6,
} as const;

export interface DeviceState {
  readonly buffer: SharedArrayBuffer;
  readonly queueCount: number;
  readonly words: Int32Array;
  /** Two copies of the configuration space, CONFIG_BYTES each. */
  readonly config: Uint8Array;
  readonly counters: Float64Array;
  /** Levels of its rate limits, by BUCKET_LEVEL; NaN: none so far. Written when the device is paused. */
  readonly levels: Float64Array;
  /** The device's own state, as its description's `stateWords`; written when the device is paused. */
  readonly own: Int32Array;
}

const LEVEL_NUMBERS = MAX_BUCKETS * BUCKET_LEVEL.count;

function offsets(queueCount: number) {
  const counters = 0;
  const levels = counters + 8 * queueCount * QUEUE_COUNTER.size;
  const config = levels + 8 * LEVEL_NUMBERS;
  const words = config + 2 * CONFIG_BYTES;
  const own = words + 4 * (DEVICE_WORD.size + queueCount * QUEUE_WORD.wordCount);
  return { counters, levels, config, words, own };
}

/** Bytes of a state with so many queues and words of the device itself. */
export function deviceStateBytes(queueCount: number, ownWords: number): number {
  return offsets(queueCount).own + 4 * ownWords;
}

/** Room for the state of a device that is not known yet. */
export interface StateRoom {
  readonly buffer: SharedArrayBuffer;
  readonly queueCapacity: number;
}

/** State of a device that no driver has initialized yet; in `room`, whatever was there before is gone. */
export function createDeviceState(description: DeviceDescription, room?: StateRoom): DeviceState {
  const queueCount = description.queueSizes.length;
  const bytes = deviceStateBytes(queueCount, description.stateWords?.length ?? 0);
  const { buffer, queueCapacity } = room ?? {
    buffer: new SharedArrayBuffer(bytes),
    queueCapacity: queueCount,
  };
  new Uint8Array(buffer).fill(0);
  const state = viewDeviceState(buffer, queueCapacity, queueCount);
  const { words, config, levels } = state;
  levels.fill(NaN);
  const W = DEVICE_WORD;
  const offered = featureWords([
    ...description.features,
    ...(description.ringFeatures ?? TRANSPORT_FEATURES),
  ]);
  words[W.type] = description.type;
  words[W.queueCount] = queueCount;
  words[W.offeredLow] = offered[0];
  words[W.offeredHigh] = offered[1];
  words[W.configBytes] = description.config.length;
  words[W.writableOffset] = description.writableConfig?.offset ?? 0;
  words[W.writableBytes] = description.writableConfig?.bytes ?? 0;
  words[W.servedByBackend] = description.servedByBackend ? 1 : 0;
  description.queueSizes.forEach((size, queue) => (words[queueWord(queue, QUEUE_WORD.sizeMax)] = size));
  config.set(description.config, 0);
  config.set(description.config, CONFIG_BYTES);
  return state;
}

/** Views of the state in `buffer`, which has room for `capacity` queues, for another thread. */
export function viewDeviceState(
  buffer: SharedArrayBuffer,
  capacity: number,
  queueCount = capacity,
): DeviceState {
  const at = offsets(capacity);
  return {
    buffer,
    queueCount,
    words: new Int32Array(buffer, at.words, (at.own - at.words) / 4),
    config: new Uint8Array(buffer, at.config, 2 * CONFIG_BYTES),
    counters: new Float64Array(buffer, at.counters, queueCount * QUEUE_COUNTER.size),
    levels: new Float64Array(buffer, at.levels, LEVEL_NUMBERS),
    own: new Int32Array(buffer, at.own),
  };
}

/** Index in `words` of one QUEUE_WORD of a queue. */
export function queueWord(queue: number, word: number): number {
  return DEVICE_WORD.size + queue * QUEUE_WORD.wordCount + word;
}

/** Feature bits of the transport and the virtqueues that Volt implements. */
const TRANSPORT_FEATURES = [
  FEATURE.ringIndirectDesc,
  FEATURE.ringEventIdx,
  FEATURE.version1,
  FEATURE.ringPacked,
] as const;

/** Packs feature bit numbers into the two words that DeviceFeatures and DriverFeatures select. */
export function featureWords(bits: readonly number[]): [low: number, high: number] {
  const words: [number, number] = [0, 0];
  for (const bit of bits) {
    if (bit < 32) words[0] |= 1 << bit;
    else words[1] |= 1 << (bit - 32);
  }
  return words;
}

/** Whether the driver accepted feature bit `bit` (0 to 63). */
export function driverHasFeature(words: Int32Array, bit: number): boolean {
  const word = words[bit < 32 ? DEVICE_WORD.driverLow : DEVICE_WORD.driverHigh]!;
  return ((word >>> (bit & 31)) & 1) !== 0;
}
