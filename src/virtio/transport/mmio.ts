/**
 * The MMIO transport of one device: what a driver finds at its registers. (Virtual I/O Device 1.2 §4.2.2, §3.1)
 *
 * Runs on vCPU workers under the bus lock and allocates nothing. It only keeps what the driver said: queues are
 * looked at, and found wrong, by the device worker, which is told through the effects.
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

/** How the transport reaches the device worker; made anew by each thread that runs it. */
export interface MmioEffects {
  /** Makes the device worker look at the device's state soon. */
  requestSync(): void;
  /** The same, and returns when it has: nothing that was in flight before is any more. */
  sync(): void;
  /** A kick that did not come by ioeventfd. */
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

/** One read of 1, 2 or 4 bytes at `offset` in the device's page. Registers answer to aligned 32-bit reads alone. */
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

/** One write of 1, 2 or 4 bytes. What makes no sense changes nothing. */
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
 * Who serves the rings elsewhere raises the interrupt without a word to us, so each may have been for a used buffer. A
 * driver that finds none shrugs: it has to expect that. (§2.7.7.1)
 */
function interruptStatus(words: Int32Array): number {
  const standing =
    words[W.servedByBackend] !== 0 && Atomics.load(words, W.status) & STATUS.driverOkBit
      ? INTERRUPT.usedBufferBit
      : 0;
  return Atomics.load(words, W.interruptStatus) | standing;
}

/** Features come in halves by a selector; beyond the second there are none. */
function halfOf(words: Int32Array, low: number, select: number): number {
  return select === 0 ? words[low]! >>> 0 : select === 1 ? words[low + 1]! >>> 0 : 0;
}

function writeDriverFeatures(words: Int32Array, value: number): void {
  // Settled by FEATURES_OK. (§3.1.1)
  if (Atomics.load(words, W.status) & STATUS.featuresOkBit) return;
  const select = words[W.driverFeaturesSel]!;
  if (select === 0) words[W.driverLow] = value;
  else if (select === 1) words[W.driverHigh] = value;
}

/** Index of a word of the selected queue, or -1: there is no such queue. */
function selectedQueueWord(words: Int32Array, word: number): number {
  const queue = words[W.queueSel]! >>> 0;
  return queue < words[W.queueCount]! ? queueWord(queue, word) : -1;
}

function readQueueWord(words: Int32Array, word: number): number {
  const at = selectedQueueWord(words, word);
  return at < 0 ? 0 : words[at]! >>> 0;
}

/** A queue that is ready keeps its place. (§4.2.2.2) */
function writeQueueWord(words: Int32Array, word: number, value: number): void {
  const at = selectedQueueWord(words, word);
  if (at >= 0 && words[selectedQueueWord(words, Q.ready)] === 0) words[at] = value;
}

function writeQueueReady({ state, effects }: MmioDevice, value: number): void {
  const { words } = state;
  const at = selectedQueueWord(words, Q.ready);
  if (at < 0) return;
  Atomics.store(words, at, value & 1);
  // Taking a queue away from a running device: it must have stopped when the driver reads 0 back.
  if (!(value & 1) && Atomics.load(words, W.status) & STATUS.driverOkBit) effects.sync();
}

function writeStatus(device: MmioDevice, value: number): void {
  const { words } = device.state;
  if (value === 0) return reset(device);
  const before = Atomics.load(words, W.status);
  let added = value & STATUS.driverMask & ~before;
  if (added & STATUS.featuresOkBit && !featuresAgree(words)) added &= ~STATUS.featuresOkBit;
  if (added & STATUS.driverOkBit && !((before | added) & STATUS.featuresOkBit)) added &= ~STATUS.driverOkBit;
  // Bits are only ever added: a driver that wants to take one back has to reset. (§2.1.1)
  Atomics.or(words, W.status, added);
  if (added & STATUS.driverOkBit) device.effects.requestSync();
}

/** Only what was offered, and VERSION_1, without which a driver would lay out everything differently. */
function featuresAgree(words: Int32Array): boolean {
  const notOffered =
    (words[W.driverLow]! & ~words[W.offeredLow]!) | (words[W.driverHigh]! & ~words[W.offeredHigh]!);
  return notOffered === 0 && (words[W.driverHigh]! & VERSION_1_BIT_HIGH) !== 0;
}

/**
 * Drivers do not wait for a reset to take effect, so it has when this returns: the device worker lets go of the
 * queues first. It may set bits until then, hence the second clearing.
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
