/**
 * The PCI transport: configuration space and BAR of a virtio device. (Virtual I/O Device 1.2 §4.1)
 *
 * Runs on vCPU workers under the bus lock and allocates nothing. What the accesses mean for KVM, its
 * `PciEffects` carry out: which eventfds are interrupts, and where the notify addresses are.
 */
import {
  configRegister,
  FUNCTION_WORD,
  maskOf,
  readConfigSpace,
  writeConfigSpace,
} from '../../pci/function-state.ts';
import { readMsixTable, writeMsixTable } from '../../pci/msix.ts';
import { COMMAND, CONFIG, MSIX_CAPABILITY, MSIX_CONTROL, STATUS as PCI_STATUS } from '../../pci/regs.ts';
import { DEVICE_WORD, QUEUE_WORD, type DeviceState } from './device-state.ts';
import {
  halfOf,
  readConfig,
  readQueueWord,
  selectedQueueWord,
  writeConfig,
  writeDriverFeatures,
  writeQueueWord,
  writeStatus,
  type TransportEffects,
} from './driver-registers.ts';
import { NO_VECTOR, NOTIFY_MULTIPLIER, PCI_BAR, PCI_CAP, PCI_CFG_CAP, PCI_COMMON as R } from './pci.regs.ts';
import type { VirtioShape } from './pci-shape.ts';

export interface PciEffects extends TransportEffects {
  /** Vectors or their masks have changed: eventfds become interrupts, or stop being ones. */
  routeInterrupts(): void;
  /** Whether an interrupt of this vector waits until it is unmasked. */
  isPending(vector: number): boolean;
  /** The BAR has moved, or its decoding was turned on or off. */
  placeNotifications(): void;
  /** Asserts the interrupt pin. */
  assertPin(): void;
}

/** A virtio device on the PCI bus, as one thread sees it. */
export interface PciDevice {
  /** By FUNCTION_WORD. */
  readonly words: Int32Array;
  readonly shape: VirtioShape;
  readonly state: DeviceState;
  readonly effects: PciEffects;
}

const W = DEVICE_WORD;
const Q = QUEUE_WORD;
const PAGE = 0x1000;

/** Control word of MSI-X. */
export function msixControl({ words, shape }: Pick<PciDevice, 'words' | 'shape'>): number {
  return configRegister(words, shape.msixCapability + MSIX_CAPABILITY.control);
}

export function readPciConfig(device: PciDevice, offset: number, size: number): number {
  const { words, shape, state } = device;
  const data = shape.accessCapability + PCI_CFG_CAP.data;
  if (offset >= data && offset < data + 4) return accessBar(device, offset - data, size, false, 0);
  const value = readConfigSpace(words, offset, size);
  const status = CONFIG.status - offset;
  // Interrupt Status shows the pin's state, whether or not the pin is disabled. (PCI 3.0 §6.2.3)
  const raised = Atomics.load(state.words, W.interruptStatus) !== 0 && state.words[W.msixEnabled] === 0;
  return raised && status >= 0 && status < size
    ? (value | (PCI_STATUS.interruptBit << (8 * status))) >>> 0
    : value;
}

export function writePciConfig(device: PciDevice, offset: number, size: number, value: number): void {
  const { words, shape, state, effects } = device;
  const data = shape.accessCapability + PCI_CFG_CAP.data;
  if (offset >= data && offset < data + 4) {
    accessBar(device, offset - data, size, true, value);
    return;
  }
  const command = configRegister(words, CONFIG.command);
  const control = msixControl(device);
  const bar = FUNCTION_WORD.config + CONFIG.bar0 / 4;
  const low = words[bar];
  const high = words[bar + 1];
  writeConfigSpace(words, shape.writable, offset, size, value);
  const added = configRegister(words, CONFIG.command);
  if (msixControl(device) !== control) {
    Atomics.store(state.words, W.msixEnabled, msixControl(device) & MSIX_CONTROL.enableBit ? 1 : 0);
    effects.routeInterrupts();
  }
  if ((added ^ command) & COMMAND.memorySpaceBit || words[bar] !== low || words[bar + 1] !== high)
    effects.placeNotifications();
  if ((added ^ command) & COMMAND.interruptDisableBit) setPinDisabled(device, added);
}

function setPinDisabled({ state: { words }, effects }: PciDevice, command: number): void {
  const disabled = (command & COMMAND.interruptDisableBit) !== 0;
  Atomics.store(words, W.pinDisabled, disabled ? 1 : 0);
  // Whatever was raised meanwhile stands in the ISR status.
  if (!disabled && words[W.msixEnabled] === 0 && Atomics.load(words, W.interruptStatus) !== 0)
    effects.assertPin();
}

/** Accesses the BAR through pci_cfg_data; returns what was read. Invalid addresses read as 0. (§4.1.4.9.1) */
function accessBar(device: PciDevice, at: number, size: number, isWrite: boolean, value: number): number {
  const { words, shape } = device;
  const capability = shape.accessCapability;
  const bar = readConfigSpace(words, capability + PCI_CAP.bar, 1);
  const offset = readConfigSpace(words, capability + PCI_CAP.offset, 4);
  const bytes = readConfigSpace(words, capability + PCI_CAP.bytes, 4);
  if (at !== 0 || (bytes !== 1 && bytes !== 2 && bytes !== 4) || size < bytes) return 0;
  if (bar !== 0 || offset % bytes !== 0 || offset + bytes > PCI_BAR.size) return 0;
  if (!isWrite) return readPciBar(device, offset, bytes);
  writePciBar(device, offset, bytes, (value & maskOf(bytes)) >>> 0);
  return 0;
}

/** Reads 1, 2 or 4 bytes at `offset` of the BAR. */
export function readPciBar(device: PciDevice, offset: number, size: number): number {
  const { state, words } = device;
  const inPage = offset % PAGE;
  switch (offset - inPage) {
    case PCI_BAR.common:
      return readCommon(device, inPage, size);
    case PCI_BAR.isr:
      // Reading it deasserts the pin. (§4.1.4.5)
      return inPage === 0 ? Atomics.exchange(state.words, W.interruptStatus, 0) : 0;
    case PCI_BAR.device:
      return readConfig(state, inPage, size);
    case PCI_BAR.msixTable:
      return readMsixTable(words, inPage, size);
    case PCI_BAR.msixPba:
      return readPending(device, inPage, size);
    default:
      return 0;
  }
}

/** Writes 1, 2 or 4 bytes at `offset` of the BAR. Invalid writes are ignored. */
export function writePciBar(device: PciDevice, offset: number, size: number, value: number): void {
  const { state, words, effects } = device;
  const inPage = offset % PAGE;
  switch (offset - inPage) {
    case PCI_BAR.common:
      writeCommon(device, inPage, size, value);
      break;
    case PCI_BAR.device:
      writeConfig(device, inPage, size, value);
      break;
    case PCI_BAR.msixTable:
      if (writeMsixTable(words, inPage, size, value)) effects.routeInterrupts();
      break;
    case PCI_BAR.notify: {
      const queue = inPage / NOTIFY_MULTIPLIER;
      if (Number.isInteger(queue) && queue < state.words[W.queueCount]!) effects.notify(queue);
      break;
    }
  }
}

/** Pending bits, one for each vector. (PCI Express 5.0 §7.7.2.9) */
function readPending({ words, effects }: PciDevice, offset: number, size: number): number {
  let value = 0;
  const vectors = words[FUNCTION_WORD.vectors]!;
  for (let bit = 0; bit < 8 * size; bit++) {
    const vector = 8 * offset + bit;
    if (vector < vectors && effects.isPending(vector)) value |= 1 << bit;
  }
  return value >>> 0;
}

/** Registers allow accesses of their own width only. (§4.1.3.1) */
function readCommon({ state: { words } }: PciDevice, offset: number, size: number): number {
  const width = widthOf(offset);
  if (size !== width && !(size === 1 && width === 2)) return 0;
  switch (offset) {
    case R.deviceFeatureSelect:
      return words[W.deviceFeaturesSel]! >>> 0;
    case R.deviceFeature:
      return halfOf(words, W.offeredLow, words[W.deviceFeaturesSel]!);
    case R.driverFeatureSelect:
      return words[W.driverFeaturesSel]! >>> 0;
    case R.driverFeature:
      return halfOf(words, W.driverLow, words[W.driverFeaturesSel]!);
    case R.configVector:
      return (words[W.configVector]! - 1) & NO_VECTOR;
    case R.numQueues:
      return words[W.queueCount]!;
    case R.deviceStatus:
      return Atomics.load(words, W.status);
    case R.configGeneration:
      return Atomics.load(words, W.generation) & 0xff;
    case R.queueSelect:
      return words[W.queueSel]!;
    case R.queueSize:
      return readQueueWord(words, Q.size) || readQueueWord(words, Q.sizeMax);
    case R.queueVector:
      return (readQueueWord(words, Q.vector) - 1) & NO_VECTOR;
    case R.queueEnable:
      return readQueueWord(words, Q.ready);
    case R.queueNotifyOff:
      return words[W.queueSel]! < words[W.queueCount]! ? words[W.queueSel]! : 0;
    case R.queueDescLow:
      return readQueueWord(words, Q.descriptorsLow);
    case R.queueDescHigh:
      return readQueueWord(words, Q.descriptorsHigh);
    case R.queueDriverLow:
      return readQueueWord(words, Q.driverLow);
    case R.queueDriverHigh:
      return readQueueWord(words, Q.driverHigh);
    case R.queueDeviceLow:
      return readQueueWord(words, Q.deviceLow);
    case R.queueDeviceHigh:
      return readQueueWord(words, Q.deviceHigh);
    default:
      return 0;
  }
}

function writeCommon(device: PciDevice, offset: number, size: number, value: number): void {
  if (size !== widthOf(offset)) return;
  const { words } = device.state;
  switch (offset) {
    case R.deviceFeatureSelect:
      words[W.deviceFeaturesSel] = value;
      break;
    case R.driverFeatureSelect:
      words[W.driverFeaturesSel] = value;
      break;
    case R.driverFeature:
      writeDriverFeatures(words, value);
      break;
    case R.configVector:
      words[W.configVector] = validVector(device, value);
      device.effects.routeInterrupts();
      break;
    case R.deviceStatus:
      writeStatus(device, value);
      if (value === 0) device.effects.routeInterrupts();
      break;
    case R.queueSelect:
      words[W.queueSel] = value;
      break;
    case R.queueSize:
      writeQueueWord(words, Q.size, value);
      break;
    case R.queueVector: {
      const at = selectedQueueWord(words, Q.vector);
      if (at < 0) break;
      words[at] = validVector(device, value);
      device.effects.routeInterrupts();
      break;
    }
    case R.queueEnable:
      if (value === 1) enableQueue(words);
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
  }
}

/** A driver that leaves the size alone accepts the largest. Only a reset disables a queue. (§4.1.4.3.2) */
function enableQueue(words: Int32Array): void {
  const at = selectedQueueWord(words, Q.size);
  if (at < 0) return;
  if (words[at] === 0) words[at] = readQueueWord(words, Q.sizeMax);
  Atomics.store(words, selectedQueueWord(words, Q.ready), 1);
}

/** 1 + vector, or 0, which reads as NO_VECTOR, if there is no such vector. (§4.1.5.1.2.1) */
function validVector({ words }: PciDevice, value: number): number {
  return value < words[FUNCTION_WORD.vectors]! ? value + 1 : 0;
}

function widthOf(offset: number): number {
  if (offset < R.configVector || (offset >= R.queueDescLow && offset < R.queueNotifyData)) return 4;
  return offset === R.deviceStatus || offset === R.configGeneration ? 1 : 2;
}
