/** What a control client can see and do of a VM. Implemented by VmControl, served by the control socket. */
import type { StuckReason } from '../../smp/hang.ts';
import type { IpiMode, IpiRequest } from '../../smp/ipi.ts';
import type { BalloonStatus } from '../../virtio/balloon/status.ts';
import type { DeviceStatus } from '../../virtio/host/status.ts';
import type { CpuChange } from '../../vmm/vcpu/hotplug.ts';
import type { KnownMpState, MpStateName, VcpuState } from '../../smp/vcpu-state.ts';

export type {
  BalloonStatus,
  CpuChange,
  DeviceStatus,
  IpiMode,
  IpiRequest,
  KnownMpState,
  MpStateName,
  StuckReason,
};
/** created, running, halted, waiting-for-sipi, paused or stopped. */
export type VcpuLifecycle = VcpuState;

/** A vCPU as of the last look at it. docs/control.md explains each member. */
export interface VcpuStatus {
  readonly index: number;
  readonly apicId: number;
  readonly bsp: boolean;
  readonly state: VcpuLifecycle;
  /** KVM's, as of the last sample or pause. */
  readonly mpState: MpStateName | undefined;
  /** With `sipi-received`: KVM's word on the vector, which Linux since 3.10 always calls 0. */
  readonly sipiVector?: number;
  /** Host thread id; 0 before the VM starts. */
  readonly threadId: number;
  /** Host CPUs that the thread may run on. */
  readonly affinity: readonly number[];
  /** Host CPU that the thread runs on, or ran on last; missing before the VM starts and after its end. */
  readonly hostCpu?: number;
  /** Time that the thread ran, and that it was ready to run and had no host CPU (steal), in nanoseconds. */
  readonly runtimeNs?: number;
  /** Missing where the host does not count it. */
  readonly waitNs?: number;
  /** Where it was when its state was looked at, `0x…`; missing before the first time. */
  readonly rip?: string;
  /** `default_idle+0x13`: what is at `rip`, where symbols are known. */
  readonly symbol?: string;
  /** Exits to Volt by KVM's reason. */
  readonly exits: Readonly<Record<string, number>>;
}

/** A guest as a whole. */
export interface VmStatus {
  readonly state: 'running' | 'paused' | 'stopped';
  readonly pid: number;
  readonly uptimeMs: number;
  readonly vcpus: number;
  /** How many there may be once CPUs are plugged. */
  readonly maxVcpus: number;
  readonly memoryBytes: number;
  readonly kernel: string;
}

/** Values as `0x…`. */
export interface RegisterSet {
  readonly general: Readonly<Record<string, string>>;
  readonly special: Readonly<Record<string, string>>;
  readonly mpState: MpStateName;
  /** As in VcpuStatus. */
  readonly sipiVector?: number;
}

/** Where and why a vCPU of a guest that hangs does not go on. */
export interface StuckVcpu {
  readonly index: number;
  readonly why: StuckReason;
  readonly state: VcpuLifecycle;
  readonly rip: string;
  readonly symbol?: string;
}

/** `atMs` is milliseconds since the VM started. */
export type VmEvent =
  | { readonly kind: 'paused' | 'resumed'; readonly vcpus: readonly number[]; readonly atMs: number }
  /** The guest reset itself and starts anew. */
  | { readonly kind: 'rebooted' | 'powerdown'; readonly atMs: number }
  | { readonly kind: 'balloon'; readonly mib: number; readonly atMs: number }
  | { readonly kind: 'cpus'; readonly change: CpuChange; readonly atMs: number }
  | { readonly kind: 'ended'; readonly reason: string; readonly exitCode: number; readonly atMs: number }
  /** No vCPU made progress for so many seconds. */
  | {
      readonly kind: 'hang';
      readonly seconds: number;
      readonly vcpus: readonly StuckVcpu[];
      readonly atMs: number;
    }
  | { readonly kind: 'nice'; readonly vcpu: number; readonly nice: number; readonly atMs: number }
  | { readonly kind: 'mp-state'; readonly vcpu: number; readonly state: KnownMpState; readonly atMs: number }
  | { readonly kind: 'ipi'; readonly request: IpiRequest; readonly atMs: number }
  | {
      readonly kind: 'affinity';
      readonly vcpu: number;
      readonly cpus: readonly number[];
      readonly atMs: number;
    };

/** Methods throw VoltError, whose message is one line, for what cannot be done. */
export interface ControlTarget {
  status(): VmStatus;
  vcpus(): readonly VcpuStatus[];
  devices(): readonly DeviceStatus[];
  /** What the balloon is at; with `mib`, after the guest was asked for so much. */
  balloon(mib?: number): BalloonStatus;
  /** Brings what `vcpus` knows of running vCPUs up to date, at the price of one short exit each. */
  sample?(): Promise<void>;
  registers(index: number): Promise<RegisterSet>;
  pause(indices?: readonly number[]): Promise<void>;
  resume(indices?: readonly number[]): Promise<void>;
  stop(): Promise<unknown>;
  /** Presses the power button. */
  powerDown(): void;
  /** Plugs or removes vCPUs until there are `count`; resolves when the guest has taken or given them. */
  setCpuCount(count: number): Promise<CpuChange>;
  sendIpi(request: IpiRequest): void;
  startAp(index: number, vector: number): void;
  setAffinity(index: number, cpus: readonly number[]): void;
  setNice(index: number, nice: number): void;
  setMpState(index: number, state: KnownMpState, vector?: number): Promise<void>;
  /** Returns what unsubscribes. */
  onEvent(listener: (event: VmEvent) => void): () => void;
}
