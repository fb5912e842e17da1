/**
 * The MMIO transport: a device's registers. (Virtual I/O Device 1.2 §4.2.2, §3.1)
 *
 * Runs on vCPU workers under the bus lock and allocates nothing. It only stores what the driver writes. The
 * device worker, which `TransportEffects` reaches, opens the virtqueues and validates them.
 */
import { DEVICE_WORD, QUEUE_WORD } from './device-state.ts';
import {
  halfOf,
  readConfig,
  readQueueWord,
  selectedQueueWord,
  writeConfig,
  writeDriverFeatures,
  writeQueueWord,
  writeStatus,
  type TransportDevice,
} from './driver-registers.ts';
import { INTERRUPT, MMIO_MAGIC, MMIO_REGISTER as R, MMIO_VENDOR, MMIO_VERSION, STATUS } from './mmio.regs.ts';

export type MmioDevice = TransportDevice;

const W = DEVICE_WORD;
const Q = QUEUE_WORD;
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

function writeQueueReady({ state, effects }: MmioDevice, value: number): void {
  const { words } = state;
  const at = selectedQueueWord(words, Q.ready);
  if (at < 0) return;
  Atomics.store(words, at, value & 1);
  // A device must have stopped using the queue when the driver reads 0 back. (§4.2.2.2)
  if (!(value & 1) && Atomics.load(words, W.status) & STATUS.driverOkBit) effects.sync();
}
