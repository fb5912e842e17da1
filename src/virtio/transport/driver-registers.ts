/**
 * What the registers of all transports do when the driver accesses them: feature negotiation, status, queue setup,
 * configuration space. (Virtual I/O Device 1.2 §2.1 to §2.5, §3.1)
 *
 * Runs on vCPU workers under the bus lock and allocates nothing.
 */
import { CONFIG_BYTES } from './device.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, type DeviceState } from './device-state.ts';
import { FEATURE, STATUS } from './mmio.regs.ts';

/** Effects of register writes on the device worker. Each vCPU worker creates its own. */
export interface TransportEffects {
  /** Asks the device worker to examine the device's state; does not wait. */
  requestSync(): void;
  /** Like `requestSync`, but waits until the device worker is done and no earlier I/O is in flight. */
  sync(): void;
  /** An available buffer notification that KVM did not turn into an ioeventfd signal. */
  notify(queue: number): void;
}

export interface TransportDevice {
  readonly state: DeviceState;
  readonly effects: TransportEffects;
}

const W = DEVICE_WORD;
const Q = QUEUE_WORD;
const VERSION_1_BIT_HIGH = 1 << (FEATURE.version1 - 32);

/** The 32 feature bits that the selector chooses. Only selectors 0 and 1 have any. */
export function halfOf(words: Int32Array, low: number, select: number): number {
  return select === 0 ? words[low]! >>> 0 : select === 1 ? words[low + 1]! >>> 0 : 0;
}

export function writeDriverFeatures(words: Int32Array, value: number): void {
  // Feature negotiation ends with FEATURES_OK. (§3.1.1)
  if (Atomics.load(words, W.status) & STATUS.featuresOkBit) return;
  const select = words[W.driverFeaturesSel]!;
  if (select === 0) words[W.driverLow] = value;
  else if (select === 1) words[W.driverHigh] = value;
}

/** Index of a word of the queue that QueueSel selects, or -1 if there is no such queue. */
export function selectedQueueWord(words: Int32Array, word: number): number {
  const queue = words[W.queueSel]! >>> 0;
  return queue < words[W.queueCount]! ? queueWord(queue, word) : -1;
}

export function readQueueWord(words: Int32Array, word: number): number {
  const at = selectedQueueWord(words, word);
  return at < 0 ? 0 : words[at]! >>> 0;
}

/** Size and addresses of a queue cannot change while QueueReady is 1. (§4.2.2.2) */
export function writeQueueWord(words: Int32Array, word: number, value: number): void {
  const at = selectedQueueWord(words, word);
  if (at >= 0 && words[selectedQueueWord(words, Q.ready)] === 0) words[at] = value;
}

export function writeStatus(device: TransportDevice, value: number): void {
  const { words } = device.state;
  if (value === 0) return reset(device);
  const before = Atomics.load(words, W.status);
  let added = value & STATUS.driverMask & ~before;
  if (added & STATUS.featuresOkBit && !featuresAgree(words)) added &= ~STATUS.featuresOkBit;
  if (added & STATUS.driverOkBit && !((before | added) & STATUS.featuresOkBit)) added &= ~STATUS.driverOkBit;
  // The driver cannot clear a bit except by a reset. (§2.1.1)
  Atomics.or(words, W.status, added);
  if (added & STATUS.driverOkBit) device.effects.requestSync();
}

/**
 * Whether the driver accepted only offered features, and VERSION_1: Volt has no legacy interface. (§2.2,
 * §6.2)
 */
function featuresAgree(words: Int32Array): boolean {
  const notOffered =
    (words[W.driverLow]! & ~words[W.offeredLow]!) | (words[W.driverHigh]! & ~words[W.offeredHigh]!);
  return notOffered === 0 && (words[W.driverHigh]! & VERSION_1_BIT_HIGH) !== 0;
}

/**
 * Device reset. Drivers do not wait for it to take effect, so it is complete when this returns: `sync` waits
 * until the device worker has released the queues. The worker may set status bits until then, so `status` is
 * cleared again afterwards. (§2.4)
 */
function reset({ state, effects }: TransportDevice): void {
  const { words } = state;
  const before = Atomics.exchange(words, W.status, 0);
  Atomics.add(words, W.resets, 1);
  if (before & STATUS.driverOkBit) effects.sync();
  Atomics.store(words, W.status, 0);
  Atomics.store(words, W.interruptStatus, 0);
  words[W.deviceFeaturesSel] = 0;
  words[W.driverFeaturesSel] = 0;
  words[W.driverLow] = 0;
  words[W.driverHigh] = 0;
  words[W.queueSel] = 0;
  words[W.configVector] = 0;
  for (let queue = 0; queue < words[W.queueCount]!; queue++) {
    for (let word: number = Q.size; word < Q.wordCount; word++) words[queueWord(queue, word)] = 0;
  }
}

export function readConfig({ words, config }: DeviceState, offset: number, size: number): number {
  const bytes = words[W.configBytes]!;
  const copy = (Atomics.load(words, W.generation) & 1) * CONFIG_BYTES;
  let value = 0;
  for (let i = 0; i < size; i++) if (offset + i < bytes) value |= config[copy + offset + i]! << (8 * i);
  return value >>> 0;
}

export function writeConfig(
  { state, effects }: TransportDevice,
  offset: number,
  size: number,
  value: number,
): void {
  const { words, config } = state;
  const first = words[W.writableOffset]!;
  const end = first + words[W.writableBytes]!;
  if (offset < first || offset + size > end) return;
  for (let i = 0; i < size; i++) {
    const byte = (value >>> (8 * i)) & 0xff;
    config[offset + i] = byte;
    config[CONFIG_BYTES + offset + i] = byte;
  }
  Atomics.add(words, W.configWrites, 1);
  effects.requestSync();
}
