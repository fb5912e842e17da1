/**
 * The I/O bus as one thread sees it: which port belongs to which device. Ports without a device read as all
 * ones and ignore writes, as on an ISA bus, so that a probing driver finds nothing and goes on.
 */
import { cmosRead, cmosSelect } from '../../chips/cmos.ts';
import { cpuHotplugRead, cpuHotplugWrite, HOTPLUG_REQUEST } from '../../chips/cpu-hotplug.ts';
import { i8042Command, i8042Data, i8042ReadData, i8042ReadStatus } from '../../chips/i8042.ts';
import { imcrRead, imcrSelect, imcrWrite } from '../../chips/imcr.ts';
import { decodePitWrite, isPitPort, PIT_RESET_VALUE } from '../../chips/pit.ts';
import { readCrtRegister, selectCrtRegister, writeCrtRegister } from '../../chips/text-cursor.ts';
import { uartRead, uartWrite, type Uart } from '../../chips/uart.ts';
import type { CoalescedRing } from '../../kvm/coalesced.ts';
import { startPit } from '../../kvm/pit.ts';
import { IrqLine } from '../../kvm/vm.ts';
import { GSI } from '../../machine/irqs.ts';
import type { PitChange } from '../../machine/pit-change.ts';
import {
  ACPI_SLEEP_ENABLE,
  ACPI_SLEEP_TYPE_S5,
  COM1_PORTS,
  CPU_HOTPLUG,
  PCI_HOTPLUG,
  PM1A_SLEEP_ENABLE,
  PORT,
} from '../../machine/ports.ts';
import { PCI_REQUEST } from '../../pci/hotplug.ts';
import { pushConsoleByte } from '../serial/ring.ts';
import { VM_WORD, type SharedState } from './shared-state.ts';
import { createVirtioBus, type VirtioBus, type VirtioLink } from '../../virtio/host/bus.ts';
import { PciBus, type PciBusLink } from '../../virtio/host/pci-bus.ts';

/** What a port access means for the machine as a whole. */
export const BUS_EVENT = { none: 0, reset: 1, powerOff: 2, guestExit: 3 } as const;
export type BusEvent = (typeof BUS_EVENT)[keyof typeof BUS_EVENT];

export interface Board {
  readonly shared: SharedState;
  readonly uart: Uart;
  readonly lowMemoryBytes: number;
  /** Devices on MMIO. */
  readonly virtio: VirtioBus;
  readonly pci?: PciBus | undefined;
  readonly bootCpu: number;
  /** KVM's ring of coalesced writes to the UART; undefined: this KVM has none. */
  readonly ring: CoalescedRing | undefined;
  /** Creates the PIT in KVM and applies the guest's write that it was created for. */
  readonly startPit: (change: PitChange | undefined) => void;
  /** Value of the write behind BUS_EVENT.guestExit. */
  exitStatus: number;
}

const RESET_CONTROL_RESET_BIT = 0x04;
/** SLP_EN with the sleep type that \\_S5 in the DSDT gives. */
const SLEEP_S5 = ACPI_SLEEP_ENABLE | (ACPI_SLEEP_TYPE_S5 << 2);

export interface BoardOptions {
  readonly vmFd: number;
  readonly lowMemoryBytes: number;
  readonly bootCpu: number;
  readonly virtio?: readonly VirtioLink[];
  readonly pci?: PciBusLink | undefined;
}

export function createBoard(
  shared: SharedState,
  options: BoardOptions,
  ring: CoalescedRing | undefined,
): Board {
  const { vmFd, lowMemoryBytes, bootCpu, virtio = [], pci } = options;
  const line = new IrqLine(vmFd, GSI.com1);
  const outputs = {
    transmit: (byte: number) => pushConsoleByte(shared, byte),
    setInterrupt: (level: 0 | 1) => line.set(level),
  };
  const isEnding = () => Atomics.load(shared.words, VM_WORD.ending) !== 0;
  return {
    shared,
    uart: { words: shared.uart, received: shared.received, outputs },
    lowMemoryBytes,
    virtio: createVirtioBus(virtio, isEnding),
    pci: pci && new PciBus(pci, isEnding),
    bootCpu,
    ring,
    startPit: (change) => startPit(vmFd, change),
    exitStatus: 0,
  };
}

/** Writes `size` bytes. Accesses of several bytes to 8-bit devices reach consecutive ports, as on the bus. */
export function writePort(board: Board, port: number, size: number, value: number): BusEvent {
  if (port === PORT.exit) {
    board.exitStatus = value;
    return BUS_EVENT.guestExit;
  }
  if (port === PORT.pm1aControl && size >= 2) {
    return value & PM1A_SLEEP_ENABLE ? BUS_EVENT.powerOff : BUS_EVENT.none;
  }
  // A 32-bit write is the PCI address register; its second byte must not reach the reset control at 0xCF9.
  if (port === PORT.pciConfigAddress && size === 4) {
    if (board.pci) board.pci.configAddress = value;
    return BUS_EVENT.none;
  }
  if (board.pci && isPciHotplug(port)) {
    if (size === 4) writePciHotplug(board.shared, board.pci, port - PORT.pciHotplug, value);
    return BUS_EVENT.none;
  }
  if (board.pci && isPciData(port)) {
    board.pci.writeData(port - PORT.pciConfigData, size, value);
    return BUS_EVENT.none;
  }
  if (isCpuHotplug(port)) {
    if (size === 4) writeCpuHotplug(board, port - PORT.cpuHotplug, value);
    return BUS_EVENT.none;
  }
  for (let i = 0; i < size; i++) {
    const event = writeByte(board, port + i, (value >>> (8 * i)) & 0xff);
    if (event !== BUS_EVENT.none) return event;
  }
  return BUS_EVENT.none;
}

/** Reads `size` bytes; those above are 0. */
export function readPort(board: Board, port: number, size: number): number {
  if (isCpuHotplug(port) && size === 4)
    return cpuHotplugRead(board.shared.cpuHotplug, port - PORT.cpuHotplug) >>> 0;
  if (board.pci && port === PORT.pciConfigAddress && size === 4) return board.pci.configAddress;
  if (board.pci && isPciHotplug(port) && size === 4) return board.pci.readHotplug(port - PORT.pciHotplug);
  if (board.pci && isPciData(port)) return board.pci.readData(port - PORT.pciConfigData, size);
  let value = 0;
  for (let i = 0; i < size; i++) value |= readByte(board, port + i) << (8 * i);
  return value >>> 0;
}

/** Bytes of CONFIG_DATA, which is as wide as the access. */
function isPciData(port: number): boolean {
  return port >= PORT.pciConfigData && port < PORT.pciConfigData + 4;
}

function isPciHotplug(port: number): boolean {
  return port >= PORT.pciHotplug && port < PORT.pciHotplug + PCI_HOTPLUG.bytes;
}

function writePciHotplug({ words }: SharedState, pci: PciBus, offset: number, value: number): void {
  if (pci.writeHotplug(offset, value) === PCI_REQUEST.none) return;
  Atomics.add(words, VM_WORD.hotplugRequests, 1);
  Atomics.notify(words, VM_WORD.hotplugRequests);
}

function isCpuHotplug(port: number): boolean {
  return port >= PORT.cpuHotplug && port < PORT.cpuHotplug + CPU_HOTPLUG.bytes;
}

function writeCpuHotplug({ shared, bootCpu }: Board, offset: number, value: number): void {
  if (cpuHotplugWrite(shared.cpuHotplug, offset, value, bootCpu) === HOTPLUG_REQUEST.none) return;
  Atomics.add(shared.words, VM_WORD.hotplugRequests, 1);
  Atomics.notify(shared.words, VM_WORD.hotplugRequests);
}

function writeByte(board: Board, port: number, value: number): BusEvent {
  if (port >= PORT.com1 && port < PORT.com1 + COM1_PORTS) {
    uartWrite(board.uart, port - PORT.com1, value);
    return BUS_EVENT.none;
  }
  const { shared } = board;
  switch (port) {
    case PORT.cmosIndex:
      cmosSelect(shared.cmos, value);
      return BUS_EVENT.none;
    case PORT.imcrAddress:
      imcrSelect(shared.imcr, value);
      return BUS_EVENT.none;
    case PORT.imcrData:
      imcrWrite(shared.imcr, value);
      return BUS_EVENT.none;
    case PORT.crtIndex:
      selectCrtRegister(shared.textCursor, value);
      return BUS_EVENT.none;
    case PORT.crtData:
      writeCrtRegister(shared.textCursor, value);
      return BUS_EVENT.none;
    case PORT.i8042Data:
      return i8042Data(shared.i8042, value) ? BUS_EVENT.reset : BUS_EVENT.none;
    case PORT.i8042Command:
      return i8042Command(shared.i8042, value) ? BUS_EVENT.reset : BUS_EVENT.none;
    case PORT.resetControl:
      return value & RESET_CONTROL_RESET_BIT ? BUS_EVENT.reset : BUS_EVENT.none;
    case PORT.acpiSleepControl:
      return value === SLEEP_S5 ? BUS_EVENT.powerOff : BUS_EVENT.none;
    case PORT.systemControlA:
      return value & 1 ? BUS_EVENT.reset : BUS_EVENT.none;
    default:
      if (isPitPort(port)) board.startPit(decodePitWrite(port, value));
      return BUS_EVENT.none;
  }
}

function readByte(board: Board, port: number): number {
  if (port >= PORT.com1 && port < PORT.com1 + COM1_PORTS) return uartRead(board.uart, port - PORT.com1);
  const { shared } = board;
  switch (port) {
    case PORT.cmosData:
      return cmosRead(shared.cmos, Date.now(), board.lowMemoryBytes);
    case PORT.imcrData:
      return imcrRead(shared.imcr);
    case PORT.crtData:
      return readCrtRegister(shared.textCursor);
    case PORT.i8042Data:
      return i8042ReadData(shared.i8042);
    case PORT.i8042Command:
      return i8042ReadStatus(shared.i8042);
    case PORT.acpiSleepControl:
    case PORT.acpiSleepStatus:
      return 0;
    case PORT.acpiEvents:
      return Atomics.exchange(shared.words, VM_WORD.acpiEvents, 0);
    case PORT.systemControlA:
      return 0x02; // A20 is enabled.
    default:
      if (!isPitPort(port)) return 0xff;
      board.startPit(undefined);
      return PIT_RESET_VALUE;
  }
}
