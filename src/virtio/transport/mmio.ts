/**
 * The MMIO transport: a device's registers. (Virtual I/O Device 1.2 §4.2.2, §3.1)
 *
 * Runs on vCPU workers under the bus lock and allocates nothing. It only stores what the driver writes. The
 * device worker, which `MmioEffects` reaches, opens the virtqueues and validates them.
 */
import { CONFIG_BYTES } from './device.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord, type DeviceState } from './device-state.ts';
import {
  FEATURE,
  INTERRUPT,
  MMIO_MAGIC,
  MMIO_REGISTER as R,
  MMIO_VENDOR,
  MMIO_VERSION,
  STATUS,
} from './mmio.regs.ts';

/** Effects of register writes on the device worker. Each vCPU worker creates its own. */
export interface MmioEffects {
  /** Asks the device worker to examine the device's state; does not wait. */
  requestSync(): void;
  /** Like `requestSync`, but waits until the device worker is done and no earlier I/O is in flight. */
  sync(): void;
  /** An available buffer notification that KVM did not turn into an ioeventfd signal. */
  notify(queue: number): void;
}

export interface MmioDevice {
  readonly state: DeviceState;
  readonly effects: MmioEffects;
}

const W = DEVICE_WORD;
const Q = QUEUE_WORD;
const VERSION_1_BIT_HIGH = 1 << (FEATURE.version1 - 32);
const NO_SHARED_MEMORY = 0xffff_ffff;

/**
 * Reads 1, 2 or 4 bytes at `offset` in the device's page. Registers allow only aligned 32-bit access; other
 * reads give 0. (§4.2.2.2)
 */
export function readMmio({ state }: MmioDevice, offset: number, size: number): number {
  if (offset >= R.config) return readConfig(state, offset - R.config, size);
  if (size !== 4 || offset % 4 !== 0) return 0;
  const { words } = state;
  switch (offset) {
    case R.magicValue:
      return MMIO_MAGIC;
    case R.version:
      return MMIO_VERSION;
    case R.deviceId:
      return words[W.type]!;
    case R.vendorId:
      return MMIO_VENDOR;
    case R.deviceFeatures:
      return halfOf(words, W.offeredLow, words[W.deviceFeaturesSel]!);
    case R.queueNumMax:
      return readQueueWord(words, Q.sizeMax);
    case R.queueReady:
      return readQueueWord(words, Q.ready);
    case R.interruptStatus:
      return interruptStatus(words);
    case R.status:
      return Atomics.load(words, W.status);
    case R.shmLenLow:
    case R.shmLenHigh:
    case R.shmBaseLow:
    case R.shmBaseHigh:
      return NO_SHARED_MEMORY;
    case R.configGeneration:
      return Atomics.load(words, W.generation) >>> 0;
    default:
      return 0;
  }
}

/** Writes 1, 2 or 4 bytes at `offset` in the device's page. Invalid writes are ignored. */
export function writeMmio(device: MmioDevice, offset: number, size: number, value: number): void {
  if (offset >= R.config) return writeConfig(device, offset - R.config, size, value);
  if (size !== 4 || offset % 4 !== 0) return;
  const { words } = device.state;
  switch (offset) {
    case R.deviceFeaturesSel:
      words[W.deviceFeaturesSel] = value;
      break;
    case R.driverFeaturesSel:
      words[W.driverFeaturesSel] = value;
      break;
    case R.driverFeatures:
      writeDriverFeatures(words, value);
      break;
    case R.queueSel:
      words[W.queueSel] = value;
      break;
    case R.queueNum:
      writeQueueWord(words, Q.size, value);
      break;
    case R.queueReady:
      writeQueueReady(device, value);
      break;
    case R.queueDescLow:
      writeQueueWord(words, Q.descriptorsLow, value);
      break;
    case R.queueDescHigh:
      writeQueueWord(words, Q.descriptorsHigh, value);
      break;
    case R.queueDriverLow:
      writeQueueWord(words, Q.driverLow, value);
      break;
    case R.queueDriverHigh:
      writeQueueWord(words, Q.driverHigh, value);
      break;
    case R.queueDeviceLow:
      writeQueueWord(words, Q.deviceLow, value);
      break;
    case R.queueDeviceHigh:
      writeQueueWord(words, Q.deviceHigh, value);
      break;
    case R.queueNotify:
      if (value >>> 0 < words[W.queueCount]!) device.effects.notify(value);
      break;
    case R.interruptAck:
      Atomics.and(words, W.interruptStatus, ~value);
      break;
    case R.status:
      writeStatus(device, value);
      break;
  }
}

/**
 * A vhost back-end raises the interrupt without Volt's involvement, so any interrupt of such a device may be
 * a used buffer notification. Drivers have to expect spurious ones. (§2.7.7.1)
 */
function interruptStatus(words: Int32Array): number {
  const standing =
    words[W.servedByBackend] !== 0 && Atomics.load(words, W.status) & STATUS.driverOkBit
      ? INTERRUPT.usedBufferBit
      : 0;
  return Atomics.load(words, W.interruptStatus) | standing;
}

/** The 32 feature bits that the selector chooses. Only selectors 0 and 1 have any. */
function halfOf(words: Int32Array, low: number, select: number): number {
  return select === 0 ? words[low]! >>> 0 : select === 1 ? words[low + 1]! >>> 0 : 0;
}

function writeDriverFeatures(words: Int32Array, value: number): void {
  // Feature negotiation ends with FEATURES_OK. (§3.1.1)
  if (Atomics.load(words, W.status) & STATUS.featuresOkBit) return;
  const select = words[W.driverFeaturesSel]!;
  if (select === 0) words[W.driverLow] = value;
  else if (select === 1) words[W.driverHigh] = value;
}

/** Index of a word of the queue that QueueSel selects, or -1 if there is no such queue. */
function selectedQueueWord(words: Int32Array, word: number): number {
  const queue = words[W.queueSel]! >>> 0;
  return queue < words[W.queueCount]! ? queueWord(queue, word) : -1;
}

function readQueueWord(words: Int32Array, word: number): number {
  const at = selectedQueueWord(words, word);
  return at < 0 ? 0 : words[at]! >>> 0;
}

/** Size and addresses of a queue cannot change while QueueReady is 1. (§4.2.2.2) */
function writeQueueWord(words: Int32Array, word: number, value: number): void {
  const at = selectedQueueWord(words, word);
  if (at >= 0 && words[selectedQueueWord(words, Q.ready)] === 0) words[at] = value;
}

function writeQueueReady({ state, effects }: MmioDevice, value: number): void {
  const { words } = state;
  const at = selectedQueueWord(words, Q.ready);
  if (at < 0) return;
  Atomics.store(words, at, value & 1);
  // A device must have stopped using the queue when the driver reads 0 back. (§4.2.2.2)
  if (!(value & 1) && Atomics.load(words, W.status) & STATUS.driverOkBit) effects.sync();
}

function writeStatus(device: MmioDevice, value: number): void {
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
function reset({ state, effects }: MmioDevice): void {
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
  for (let queue = 0; queue < words[W.queueCount]!; queue++) {
    for (let word: number = Q.size; word < Q.wordCount; word++) words[queueWord(queue, word)] = 0;
  }
}

function readConfig({ words, config }: DeviceState, offset: number, size: number): number {
  const bytes = words[W.configBytes]!;
  const copy = (Atomics.load(words, W.generation) & 1) * CONFIG_BYTES;
  let value = 0;
  for (let i = 0; i < size; i++) if (offset + i < bytes) value |= config[copy + offset + i]! << (8 * i);
  return value >>> 0;
}

function writeConfig({ state, effects }: MmioDevice, offset: number, size: number, value: number): void {
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
