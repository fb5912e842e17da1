/**
 * The state of one device that vCPU workers and its device worker share: words, configuration space and counters,
 * all in one SharedArrayBuffer.
 *
 * Who writes what: vCPU workers everything the driver writes, under the bus lock; the device worker adds
 * bits to `status` and `interruptStatus` (both by Atomics), owns `generation`, `syncDone`, `failures` and the
 * counters. The configuration space exists twice, and the lowest bit of `generation` says which copy the driver
 * reads: so a change of many bytes shows as a whole, without a lock, together with its new generation.
 */
import { CONFIG_BYTES, type DeviceDescription } from './device.ts';
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
  /** Counts resets by the driver: what the device worker activated before the last one is over. */
  resets: 15,
  /** Counts the vCPUs' wishes that the device worker look at these words, and those fulfilled. Notified. */
  syncWanted: 16,
  syncDone: 17,
  /** Counts the driver's writes to the configuration space. */
  configWrites: 18,
  /** 1 while the device worker serves the device. */
  active: 19,
  /** How often the device gave up on its driver. */
  failures: 20,
  /** 1: another process serves the rings. */
  servedByBackend: 21,
  size: 22,
} as const;

/** Words of one queue, behind those of the device. Addresses as two halves. */
export const QUEUE_WORD = {
  sizeMax: 0,
  size: 1,
  ready: 2,
  descriptorsLow: 3,
  descriptorsHigh: 4,
  driverLow: 5,
  driverHigh: 6,
  deviceLow: 7,
  deviceHigh: 8,
  wordCount: 9,
} as const;

/** Counters of one queue, written by the device worker alone. */
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
  /** Two copies of CONFIG_BYTES. */
  readonly config: Uint8Array;
  readonly counters: Float64Array;
}

function offsets(queueCount: number) {
  const counters = 0;
  const config = counters + 8 * queueCount * QUEUE_COUNTER.size;
  const words = config + 2 * CONFIG_BYTES;
  return { counters, config, words, end: words + 4 * (DEVICE_WORD.size + queueCount * QUEUE_WORD.wordCount) };
}

/** The state of a device before its driver touched it. */
export function createDeviceState(description: DeviceDescription): DeviceState {
  const queueCount = description.queueSizes.length;
  const state = viewDeviceState(new SharedArrayBuffer(offsets(queueCount).end), queueCount);
  const { words, config } = state;
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

/** The same state seen from another thread. */
export function viewDeviceState(buffer: SharedArrayBuffer, queueCount: number): DeviceState {
  const at = offsets(queueCount);
  return {
    buffer,
    queueCount,
    words: new Int32Array(buffer, at.words),
    config: new Uint8Array(buffer, at.config, 2 * CONFIG_BYTES),
    counters: new Float64Array(buffer, at.counters, queueCount * QUEUE_COUNTER.size),
  };
}

export function queueWord(queue: number, word: number): number {
  return DEVICE_WORD.size + queue * QUEUE_WORD.wordCount + word;
}

/** What Volt's own rings can do. */
const TRANSPORT_FEATURES = [
  FEATURE.ringIndirectDesc,
  FEATURE.ringEventIdx,
  FEATURE.version1,
  FEATURE.ringPacked,
] as const;

/** Feature bit numbers as the two words of the registers. */
export function featureWords(bits: readonly number[]): [low: number, high: number] {
  const words: [number, number] = [0, 0];
  for (const bit of bits) {
    if (bit < 32) words[0] |= 1 << bit;
    else words[1] |= 1 << (bit - 32);
  }
  return words;
}

/** Whether the driver accepted a feature bit. */
export function driverHasFeature(words: Int32Array, bit: number): boolean {
  const word = words[bit < 32 ? DEVICE_WORD.driverLow : DEVICE_WORD.driverHigh]!;
  return ((word >>> (bit & 31)) & 1) !== 0;
}
