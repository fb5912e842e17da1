/** What a machine is made from when it is restored. `state/restore.ts` has the code, which no other run loads. */
import type { BootProtocol } from '../boot/boot-plan.ts';
import type { VmConfig } from '../config/config.ts';
import type { KvmVcpu } from '../kvm/vcpu.ts';
import type { KvmVm } from '../kvm/vm.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { OpenMemorySource } from '../memory/memory-source.ts';
import type { SavedPciBus } from '../virtio/host/pci-host.ts';
import type { SavedDevice } from '../virtio/host/saved-device.ts';
import type { AcpiEvents } from './acpi-events.ts';
import type { SharedState } from './bus/shared-state.ts';
import type { Vcpu } from './vcpu/vcpu.ts';

/** Parts of a machine whose vCPUs, devices and memory are in place. */
export interface RestoredParts {
  readonly config: VmConfig;
  readonly vm: KvmVm;
  readonly shared: SharedState;
  readonly vcpus: readonly Vcpu[];
  readonly memory: GuestMemory;
  readonly acpiEvents: AcpiEvents;
  readonly vmGenerationId: Uint8Array;
}

export interface RestoredSource {
  readonly protocol: BootProtocol;
  /** vCPUs that were ever created. */
  readonly vcpuCount: number;
  /** Those of them that are not parked. */
  readonly runningCount: number;
  /** CPUID of the first vCPU, for vCPUs that are plugged later. */
  readonly cpuid: readonly CpuidEntry[];
  readonly devices: readonly SavedDevice[];
  /** undefined: the devices are on MMIO. */
  readonly pci: SavedPciBus | undefined;
  /** GuestMemory owns the result. */
  openMemory(): OpenMemorySource;
  /** Before vCPUs are created. */
  applyClock(vm: KvmVm): void;
  isParked(index: number): boolean;
  /** Writes the saved state to a new vCPU; returns its MP state. Throws VoltError. */
  applyVcpu(vcpu: KvmVcpu, index: number): number;
  /** Writes the rest, before any vCPU runs. Throws VoltError. */
  finish(parts: RestoredParts): void;
}
