/** A saved machine as data for people and programs: what `volt inspect DIR` prints. Pure. */
import { getU64, viewOf } from '../../binary/bytes.ts';
import { IMCR_WORD } from '../../chips/imcr.ts';
import { UART_WORD } from '../../chips/uart.ts';
import { vendorOf } from '../../cpuid/leaf.ts';
import { CLOCK_DATA, CLOCK_FLAG } from '../../kvm/state-abi.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';
import { ACPI_EVENT } from '../../machine/ports.ts';
import { brandOf, modelOf } from './cpu-compatibility.ts';
import { savedTable } from './cpu-needs.ts';
import { describeDevice, type DeviceDescription } from './describe-devices.ts';
import {
  describeIoApic,
  describePic,
  describePit,
  type IoApicDescription,
  type PicDescription,
  type PitChannelDescription,
} from './describe-interrupts.ts';
import { describeVcpu, type VcpuDescription } from './describe-vcpu.ts';
import type { MachineState } from './machine-state.ts';
import { ramBytes } from './memory-state.ts';

export interface LayerDescription {
  readonly file: string;
  /** What the file covers: all of RAM, or the pages that were written since the layer before. */
  readonly bytes: number;
  readonly runs: number | undefined;
}

export interface ClockDescription {
  /** kvmclock, in nanoseconds. */
  readonly kvmclockNs: number;
  readonly tscStable: boolean;
  /** Host time of the snapshot by the kernel, ns since 1970, and its TSC; undefined: KVM did not say. */
  readonly realtimeNs: number | undefined;
  readonly hostTsc: string | undefined;
}

export interface ChipsDescription {
  readonly uart: Readonly<Record<string, number>>;
  /** Bytes that wait in the receiver FIFO. */
  readonly uartReceived: number;
  readonly i8042: readonly number[];
  readonly cmosIndex: number;
  readonly imcr: number;
  /** Names of ACPI events that the guest has not seen. */
  readonly acpiEvents: readonly string[];
}

export interface StateDescription {
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly volt: string;
  readonly protocol: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly cpu: { readonly model: string; readonly brand: string };
  readonly memory: {
    readonly bytes: number;
    readonly regions: readonly { readonly address: number; readonly bytes: number }[];
    readonly layers: readonly LayerDescription[];
  };
  readonly vmGenerationIdAddress: number | undefined;
  readonly clock: ClockDescription;
  readonly vcpus: readonly VcpuDescription[];
  readonly ioapic: IoApicDescription;
  readonly pics: { readonly master: PicDescription; readonly slave: PicDescription };
  /** undefined: the guest has never touched the PIT. */
  readonly pit: readonly PitChannelDescription[] | undefined;
  readonly chips: ChipsDescription;
  readonly devices: readonly DeviceDescription[];
}

export function describeState(state: MachineState): StateDescription {
  const { vm, memory, vcpus } = state;
  const [first] = vcpus;
  const cpuid = savedTable(first!.cpuid);
  return {
    id: state.id,
    createdAt: isoTime(state.createdAt),
    volt: state.volt,
    protocol: state.boot.protocol,
    config: state.config,
    cpu: { model: cpuName(cpuid), brand: brandOf(cpuid) },
    memory: {
      bytes: ramBytes(memory.regions),
      regions: memory.regions,
      layers: memory.layers.map(({ file, bytes, runs }) => ({
        file,
        bytes: runs ? runs.reduce((sum, [, length]) => sum + length, 0) : bytes,
        runs: runs?.length,
      })),
    },
    vmGenerationIdAddress: state.vmGenId?.address,
    clock: describeClock(viewOf(vm.clock)),
    vcpus: vcpus.map(describeVcpu),
    ioapic: describeIoApic(vm.ioapic),
    pics: { master: describePic(vm.picMaster), slave: describePic(vm.picSlave) },
    pit: vm.pit && describePit(vm.pit),
    chips: describeChips(state.chips),
    devices: state.devices.map(describeDevice),
  };
}

function cpuName(cpuid: readonly CpuidEntry[]): string {
  const parts = [vendorOf(cpuid).replace(/[^ -~]/g, '?'), modelOf(cpuid)].filter((part) => part !== '');
  return parts.join(', ') || 'unknown';
}

/** Largest time that Date represents. (ECMA-262 §21.4.1.1) */
const LAST_TIME = 8.64e15;

function isoTime(milliseconds: number): string {
  return new Date(Math.min(milliseconds, LAST_TIME)).toISOString();
}

function describeClock(clock: DataView): ClockDescription {
  const flags = clock.getUint32(CLOCK_DATA.flags, true);
  return {
    kvmclockNs: getU64(clock, CLOCK_DATA.clock),
    tscStable: (flags & CLOCK_FLAG.tscStable) !== 0,
    realtimeNs: (flags & CLOCK_FLAG.realtime) !== 0 ? getU64(clock, CLOCK_DATA.realtime) : undefined,
    hostTsc:
      (flags & CLOCK_FLAG.hostTsc) !== 0
        ? clock.getBigUint64(CLOCK_DATA.hostTsc, true).toString()
        : undefined,
  };
}

/** Registers by the names of the datasheet. */
const UART_NAMES = {
  IER: UART_WORD.interruptEnable,
  FCR: UART_WORD.fifoControl,
  LCR: UART_WORD.lineControl,
  MCR: UART_WORD.modemControl,
  SCR: UART_WORD.scratch,
  DLL: UART_WORD.divisorLow,
  DLM: UART_WORD.divisorHigh,
} as const;
const EVENT_NAMES = {
  'CPU hotplug': ACPI_EVENT.cpuHotplug,
  'power button': ACPI_EVENT.powerButton,
  'VM generation': ACPI_EVENT.vmGeneration,
} as const;

function describeChips(chips: MachineState['chips']): ChipsDescription {
  return {
    uart: Object.fromEntries(Object.entries(UART_NAMES).map(([name, word]) => [name, chips.uart[word]!])),
    uartReceived: chips.received.length,
    i8042: chips.i8042,
    cmosIndex: chips.cmos[0]!,
    imcr: chips.imcr[IMCR_WORD.value]!,
    acpiEvents: Object.entries(EVENT_NAMES)
      .filter(([, event]) => (chips.acpiEvents & event) !== 0)
      .map(([name]) => name),
  };
}
