/** The operations on a VM for control clients. Implemented by VmControl, served by the control socket. */
import type { StuckReason } from '../../smp/hang.ts';
import type { IpiMode, IpiRequest } from '../../smp/ipi.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import type { BalloonStatus } from '../../virtio/balloon/status.ts';
import type { MemStatus } from '../../virtio/mem/control.ts';
import type { DeviceStatus } from '../../virtio/host/status.ts';
import type { SnapshotProgress, SnapshotRequest, SnapshotResult } from '../../vmm/state/snapshot.ts';
import type { ConsoleHub } from '../console-hub.ts';
import type { DumpResult } from '../../vmm/debug/dump.ts';
import type { GdbConnection, GdbSession } from '../../vmm/debug/gdb-session.ts';
import type { TimelineRow, VcpuTimeline } from '../../vmm/timeline.ts';
import type { PlugRequest, PlugResult } from '../../vmm/pci-hotplug.ts';
import type { TraceResult } from '../../vmm/trace/record-trace.ts';
import type { CpuChange } from '../../vmm/vcpu/hotplug.ts';
import type { KnownMpState, MpStateName, VcpuState } from '../../smp/vcpu-state.ts';

export type {
  BalloonStatus,
  CpuChange,
  DeviceStatus,
  DumpResult,
  IpiMode,
  IpiRequest,
  KnownMpState,
  MpStateName,
  PlugRequest,
  PlugResult,
  SnapshotRequest,
  SnapshotResult,
  StuckReason,
  TraceResult,
};
/** created, running, halted, waiting-for-sipi, paused or stopped. */
export type VcpuLifecycle = VcpuState;

/** A vCPU as of its last sample. docs/control.md explains each member. */
export interface VcpuStatus {
  readonly index: number;
  readonly apicId: number;
  readonly bsp: boolean;
  readonly state: VcpuLifecycle;
  /** KVM's MP state at the last sample or pause. */
  readonly mpState: MpStateName | undefined;
  /** With `sipi-received`: the vector from KVM_GET_VCPU_EVENTS, always 0 on Linux since 3.10. */
  readonly sipiVector?: number;
  /** Host thread id; 0 before the VM starts. */
  readonly threadId: number;
  /** Host CPUs that the thread may run on. */
  readonly affinity: readonly number[];
  /** Host CPU that the thread runs on, or ran on last; missing before the VM starts and after its end. */
  readonly hostCpu?: number;
  /** CPU time of the thread, in nanoseconds. */
  readonly runtimeNs?: number;
  /**
   * Time in which the thread was ready without a host CPU (steal), in nanoseconds; missing if not counted.
   */
  readonly waitNs?: number;
  /** RIP at the last sample, `0x…`; missing before the first one. */
  readonly rip?: string;
  /** Symbol and offset at `rip`, such as `default_idle+0x13`, if known. */
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
  /** Limit of vCPUs that hotplug can reach. */
  readonly maxVcpus: number;
  readonly memoryBytes: number;
  readonly kernel: string;
}

/** What the guest was started with, and has by now. */
export interface RunningConfig {
  /** In the format of a configuration file; paths are absolute. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** When phases of the boot happened, in milliseconds since the guest's process started. */
export interface BootTimeline {
  readonly phases: readonly TimelineRow[];
  readonly vcpus: readonly VcpuTimeline[];
}

/** Values as `0x…`. */
export interface RegisterSet {
  readonly general: Readonly<Record<string, string>>;
  readonly special: Readonly<Record<string, string>>;
  readonly mpState: MpStateName;
  /** As in VcpuStatus. */
  readonly sipiVector?: number;
}

/** A vCPU of a guest that hangs: its position, and why it cannot continue. */
export interface StuckVcpu {
  readonly index: number;
  readonly why: StuckReason;
  readonly state: VcpuLifecycle;
  readonly rip: string;
  readonly symbol?: string;
}

/**
 * What Volt asks the client of `snapshot` for: `send-files` for descriptors of the files, `commit` to put the
 * written files in their place. `plug` is asked for `send-device`, descriptors of the device.
 */
export const CLIENT_ASKS = ['send-files', 'commit', 'send-device'] as const;
/** One of CLIENT_ASKS. */
export type ClientAsk = (typeof CLIENT_ASKS)[number];

/** The part of a client's connection that a call may use until it is answered. */
export interface CallingClient {
  /**
   * Sends `what` with `params`, and receives `files` descriptors with the client's answer. Throws VoltError
   * for any other answer, or none.
   */
  ask(what: ClientAsk, params: object, files: number): Promise<OwnedFd[]>;
  /** Calls `listener` once if the client closes its connection before the returned function is called. */
  onGone(listener: () => void): () => void;
}

/** `atMs` is milliseconds since the VM started. */
export type VmEvent =
  | { readonly kind: 'paused' | 'resumed'; readonly vcpus: readonly number[]; readonly atMs: number }
  /** `rebooted`: the guest has reset itself and starts again. */
  | { readonly kind: 'rebooted' | 'powerdown'; readonly atMs: number }
  | {
      readonly kind: 'snapshot';
      readonly id: string;
      readonly step: SnapshotProgress['step'];
      /** Bytes of RAM that are written, of those to write in this round. */
      readonly bytes: number;
      readonly total: number;
      readonly atMs: number;
    }
  /** Bytes of RAM that a dump has dealt with. */
  | { readonly kind: 'dump'; readonly bytes: number; readonly total: number; readonly atMs: number }
  | { readonly kind: 'balloon'; readonly mib: number; readonly atMs: number }
  | { readonly kind: 'cpus'; readonly change: CpuChange; readonly atMs: number }
  /** A PCI device. */
  | { readonly kind: 'plugged' | 'unplugged'; readonly id: string; readonly atMs: number }
  | { readonly kind: 'ended'; readonly reason: string; readonly exitCode: number; readonly atMs: number }
  /** No vCPU made progress for `seconds`. */
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

/** Memory of a guest in MiB: `baseMib` from the start on, and what can be plugged. */
export interface MemoryStatus extends MemStatus {
  readonly baseMib: number;
}

/** Methods throw VoltError, with a message of one line, if an operation fails. */
export interface ControlTarget {
  /** undefined: clients cannot open the console. */
  readonly console?: ConsoleHub | undefined;
  status(): VmStatus;
  config(): Promise<RunningConfig>;
  timeline(): BootTimeline;
  vcpus(): readonly VcpuStatus[];
  devices(): readonly DeviceStatus[];
  /** Hotpluggable memory; with `mib`, asks the guest for so much memory in all first. */
  memory(mib?: number): MemoryStatus;
  /** Status of the balloon; with `mib`, sets the requested size first. */
  balloon(mib?: number): BalloonStatus;
  /** Samples running vCPUs for `vcpus`, at the cost of one short exit each. */
  sample?(): Promise<void>;
  registers(index: number): Promise<RegisterSet>;
  pause(indices?: readonly number[]): Promise<void>;
  resume(indices?: readonly number[]): Promise<void>;
  stop(): Promise<unknown>;
  /** Presses the power button. */
  powerDown(): void;
  /** Plugs or ejects vCPUs to reach `count`; resolves when the guest has taken or ejected them. */
  setCpuCount(count: number): Promise<CpuChange>;
  /** Plugs a PCI device whose files the client opens. Resolves when the guest has answered, or not in time. */
  plug(request: PlugRequest, client: CallingClient): Promise<PlugResult>;
  /** Resolves when the guest has ejected the device. */
  unplug(id: string): Promise<PlugResult>;
  /** Writes the guest to files of the client. Resolves when the client has put them in their place. */
  snapshot(request: SnapshotRequest, client: CallingClient): Promise<SnapshotResult>;
  /** Writes a core file, which the client opens. Resolves when the client has put it in its place. */
  dump(client: CallingClient): Promise<DumpResult>;
  /** Records the guest for some seconds, to a file of the client. */
  trace(seconds: number, client: CallingClient): Promise<TraceResult>;
  /** Stops the guest for a gdb. */
  attachGdb(connection: GdbConnection): Promise<GdbSession>;
  sendIpi(request: IpiRequest): void;
  startAp(index: number, vector: number): void;
  setAffinity(index: number, cpus: readonly number[]): Promise<void>;
  setNice(index: number, nice: number): Promise<void>;
  setMpState(index: number, state: KnownMpState, vector?: number): Promise<void>;
  /** Returns a function that unsubscribes. */
  onEvent(listener: (event: VmEvent) => void): () => void;
}
