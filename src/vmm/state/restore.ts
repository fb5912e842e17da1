/** Makes a machine continue from a saved state: its vCPUs, clocks, interrupt controllers and chips. */
import { UART_WORD } from '../../chips/uart.ts';
import { decodeCpuid } from '../../kvm/cpuid-codec.ts';
import { savedMsr, withSavedMsr } from '../../kvm/saved-msrs.ts';
import { STATE_MSR } from '../../kvm/state-abi.ts';
import type { KvmSystem } from '../../kvm/system.ts';
import {
  readStateSupport,
  readTscOffset,
  writeTscDeadline,
  writeTscOffset,
  writeVcpu,
  type StateSupport,
} from '../../kvm/vcpu-state.ts';
import { notifyGuestPaused, type KvmVcpu } from '../../kvm/vcpu.ts';
import { savedClock, savedRealTime, writeChips, writeClock } from '../../kvm/vm-state.ts';
import { guestAddress } from '../../machine/address.ts';
import type { MemorySource, OpenMemorySource } from '../../memory/memory-source.ts';
import { openMemorySource } from '../../memory/open-source.ts';
import { VoltError } from '../../volt-error.ts';
import { VM_WORD, type SharedState } from '../bus/shared-state.ts';
import type { RestoredParts, RestoredSource } from '../restored-source.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import { changeVmGeneration } from '../vm-generation.ts';
import { checkHostCpu, cpuOfKvm } from './cpu-of-kvm.ts';
import type { MachineState, SavedVcpu } from './machine-state.ts';

/**
 * `offset`: to the guest no time has passed since the snapshot. `realtime`: its clocks advance by the time that
 * has passed, and timers that have expired meanwhile fire at once.
 */
export type RestoredClock = 'offset' | 'realtime';

export interface RestoreOptions {
  readonly state: MachineState;
  readonly source: MemorySource;
  readonly clock: RestoredClock;
  readonly kvm: KvmSystem;
  /** Go on although this host's CPU lacks what the guest has seen. */
  readonly ignoreCpu?: boolean;
  readonly warn: (line: string) => void;
}

const NS_PER_MS = 1_000_000n;

/** For `MachineOptions.restored`. The configuration comes from the state, with its number of vCPUs. */
export function prepareRestore({
  state,
  source,
  clock,
  kvm,
  ignoreCpu = false,
  warn,
}: RestoreOptions): RestoredSource {
  const support = readStateSupport(kvm);
  const { vcpus } = state;
  // Taken when it is written, because opening the memory and the devices may take long.
  const passed = () => (clock === 'realtime' ? timeSince(state) : 0n);
  let tscPassed: bigint | undefined;
  const warned = new Set<string>();
  return {
    protocol: state.boot.protocol,
    vcpuCount: vcpus.length,
    runningCount: vcpus.filter(({ parked }) => !parked).length,
    cpuid: decodeTable(vcpus[0]!),
    devices: state.devices,
    pci: state.pci,
    // Before the vCPUs: kvmclock's MSRs make KVM tell the guest what time it was at kvmclock 0.
    applyClock: (vm) => writeClock(vm.fd, savedClock(state.vm.clock) + passed()),
    openMemory: (): OpenMemorySource => openMemorySource(source),
    isParked: (index) => vcpus[index]!.parked,
    applyVcpu: (kvmVcpu, index) => {
      if (index === 0 && !ignoreCpu) checkHostCpu(state, cpuOfKvm(kvm, kvmVcpu, support), warn);
      // The same for all: KVM takes TSCs that are written one soon after the other for synchronized.
      tscPassed ??= passed();
      const warning = applyVcpu(kvmVcpu, advanceTsc(vcpus[index]!, tscPassed), support);
      // The same for every vCPU.
      if (warning !== undefined && !warned.has(warning)) warn(warning);
      if (warning !== undefined) warned.add(warning);
      return vcpus[index]!.mpState;
    },
    finish: (parts) => finish(parts, state, passed()),
  };
}

/** Nanoseconds since the machine was saved; 0 where this host's clock is behind. */
function timeSince({ vm, createdAt }: MachineState): bigint {
  const passed = BigInt(Date.now()) * NS_PER_MS - (savedRealTime(vm.clock) ?? BigInt(createdAt) * NS_PER_MS);
  return passed > 0n ? passed : 0n;
}

function advanceTsc(vcpu: SavedVcpu, passed: bigint): SavedVcpu {
  const tsc = savedMsr(vcpu.msrs, STATE_MSR.ia32Tsc);
  if (tsc === undefined || passed === 0n) return vcpu;
  const value = BigInt.asUintN(64, tsc + (passed * BigInt(vcpu.tscKhz)) / NS_PER_MS);
  return { ...vcpu, msrs: withSavedMsr(vcpu.msrs, STATE_MSR.ia32Tsc, value) };
}

function decodeTable({ cpuid }: SavedVcpu) {
  try {
    return decodeCpuid(cpuid);
  } catch {
    throw new VoltError(
      'image',
      'Cannot restore the machine: its CPUID table is shorter than it says; take the snapshot again',
    );
  }
}

function applyVcpu(kvm: KvmVcpu, saved: SavedVcpu, support: StateSupport): string | undefined {
  if (kvm.apicId !== saved.apicId) {
    throw new VoltError(
      'image',
      `Cannot restore vCPU ${saved.index}: its APIC id is ${saved.apicId}, and ${kvm.apicId} by the configuration; restore with the topology of the snapshot`,
    );
  }
  try {
    return writeVcpu(kvm, saved, support);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new VoltError('host', `Cannot restore vCPU ${saved.index}: ${reason}`, { cause: error });
  }
}

function finish(
  { config, vm, shared, vcpus, memory, acpiEvents, vmGenerationId }: RestoredParts,
  state: MachineState,
  passed: bigint,
): void {
  const saved = state.vcpus;
  applyChips(shared, state);
  alignTsc(vcpus, saved);
  // Again, now that it rests on the TSCs.
  writeClock(vm.fd, savedClock(state.vm.clock) + passed);
  vcpus.forEach(({ kvm, index }) => writeTscDeadline(kvm, saved[index]!));
  // The guest's watchdogs must not take the time in the snapshot for a stall.
  vcpus.forEach(({ kvm }) => notifyGuestPaused(kvm.fd));
  writeChips(vm.fd, state.vm);
  if (config.acpi && state.vmGenId)
    changeVmGeneration({ memory, acpiEvents }, guestAddress(state.vmGenId.address), vmGenerationId);
}

/** The differences between the TSCs are exactly those that were saved. */
function alignTsc(vcpus: readonly Vcpu[], saved: readonly SavedVcpu[]): void {
  const base = readTscOffset(vcpus[0]!.kvm.fd);
  const first = savedMsr(saved[0]!.msrs, STATE_MSR.ia32Tsc);
  if (base === undefined || first === undefined) return;
  for (const { kvm, index } of vcpus.slice(1)) {
    const tsc = savedMsr(saved[index]!.msrs, STATE_MSR.ia32Tsc) ?? first;
    writeTscOffset(kvm.fd, base + tsc - first);
  }
}

function applyChips(shared: SharedState, { chips }: MachineState): void {
  const { uart, received, words } = shared;
  if (chips.cpuHotplug.length !== shared.cpuHotplug.length) {
    throw new VoltError(
      'image',
      'Cannot restore the machine: the snapshot has room for another number of vCPUs than the configuration; restore with the --cpus of the snapshot',
    );
  }
  for (const name of ['uart', 'i8042', 'cmos', 'imcr', 'textCursor', 'cpuHotplug'] as const)
    shared[name].set(chips[name]);
  const tail = uart[UART_WORD.receiveTail]!;
  chips.received.forEach((byte, i) => (received[(tail + i) & (received.length - 1)] = byte));
  words[VM_WORD.acpiEvents] = chips.acpiEvents;
}
