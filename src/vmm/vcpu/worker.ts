/** Entry point of a vCPU's Worker: waits for its VcpuStart, runs the vCPU, reports why it ended. */
import { arrayBufferAt, libc, type HostPointer } from '../../ffi/libc.ts';
import { installFilter } from '../../ffi/sandbox.ts';
import { setThreadName } from '../../ffi/thread.ts';
import { viewCoalescedRing } from '../../kvm/coalesced.ts';
import { createBoard } from '../bus/board.ts';
import { useNormalJitPolicy } from '../../runtime/jit-policy.ts';
import { viewRunPage } from './handle-exit.ts';
import { obeyTrace } from './commands.ts';
import { runVcpu } from './run-loop.ts';
import {
  now,
  setPhase,
  viewSharedState,
  VCPU_COMMAND,
  VCPU_MOMENT,
  VCPU_PHASE,
  VCPU_WORD,
  VM_WORD,
  type SharedState,
} from '../bus/shared-state.ts';
import { vcpuQueries } from './queries.ts';
import type { VcpuMessage, VcpuReport } from './report.ts';
import { applyScheduling, type VcpuScheduling } from './scheduling.ts';
import type { VirtioLink } from '../../virtio/host/bus.ts';
import type { PciBusLink } from '../../virtio/host/pci-bus.ts';

/**
 * A machine as the Workers of its vCPUs need it. Descriptors belong to the process, so their numbers are
 * enough.
 */
export interface MachineLink {
  readonly buffer: SharedArrayBuffer;
  readonly vcpuCount: number;
  readonly vmFd: number;
  /** Offset of KVM's ring of coalesced writes in each vCPU's mapping; 0: this KVM has none. */
  readonly coalescedRingOffset: number;
  readonly lowMemoryBytes: number;
  readonly virtio: readonly VirtioLink[];
  readonly pci: PciBusLink | undefined;
  readonly bootCpu: number;
  /** APs that the BSP waits for before it runs. */
  readonly apsAtStart: number;
  readonly timeline: boolean;
}

/** What the Worker of one vCPU needs. */
export interface VcpuStart extends MachineLink {
  readonly index: number;
  readonly vcpuFd: number;
  readonly runAddress: HostPointer;
  readonly runBytes: number;
  readonly scheduling: VcpuScheduling;
  /** System call filter for this thread, from `placeFilter`. */
  readonly filter: HostPointer | undefined;
  /**
   * What KVM_RUN returned on the thread that ran the vCPU before: 0 or a negated errno; undefined without
   * one.
   */
  readonly pending: number | undefined;
}

declare const self: { onmessage: ((event: { data: VcpuStart }) => void) | null };
declare function postMessage(message: VcpuMessage): void;

/** How often a BSP that waits for its APs checks whether the VM is being stopped. */
const STOP_CHECK_MS = 50;
const workerUp = now();

self.onmessage = ({ data }) => {
  self.onmessage = null;
  postMessage({ index: data.index, report: runToReport(data) });
};

function runToReport(start: VcpuStart): VcpuReport {
  try {
    return run(start);
  } catch (error) {
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  } finally {
    setPhase(viewSharedState(start.buffer, start.vcpuCount).vcpuWords(start.index), VCPU_PHASE.stopped);
  }
}

function run(start: VcpuStart): VcpuReport {
  const { scheduling, vcpuFd } = start;
  const shared = viewSharedState(start.buffer, start.vcpuCount);
  const words = shared.vcpuWords(start.index);
  const moments = shared.vcpuMoments(start.index);
  moments[VCPU_MOMENT.workerUp] = workerUp;
  setThreadName(`vcpu${start.index}`);
  Atomics.store(words, VCPU_WORD.threadId, libc.gettid());
  // SAFETY: the main thread keeps kvm_run mapped until this worker has reported.
  const page = arrayBufferAt(start.runAddress, start.runBytes);
  applyScheduling(scheduling);
  if (start.filter !== undefined) installFilter(start.filter, 'this');
  if (start.pending === undefined) {
    if (!waitForAps(shared, start, words)) return { kind: 'stopped' };
    setPhase(words, VCPU_PHASE.running);
    moments[VCPU_MOMENT.entered] = now();
  }
  useNormalJitPolicy();
  const vcpu = {
    ...viewRunPage(page),
    kvm: vcpuQueries(vcpuFd),
    board: createBoard(shared, start, viewCoalescedRing(page, start.coalescedRingOffset)),
    words,
    moments,
    timeline: start.timeline,
    trace: { address: 0, ring: undefined },
  };
  obeyTrace(vcpu);
  return runVcpu(vcpuFd, vcpu, start.pending);
}

/**
 * APs announce themselves and go on; the BSP waits for all of them. False when the VM was stopped meanwhile.
 */
function waitForAps(
  shared: SharedState,
  { index, bootCpu, apsAtStart }: Pick<VcpuStart, 'index' | 'bootCpu' | 'apsAtStart'>,
  words: Int32Array,
): boolean {
  const bsp = index === bootCpu;
  if (!bsp) {
    Atomics.add(shared.words, VM_WORD.apsReady, 1);
    Atomics.notify(shared.words, VM_WORD.apsReady);
  }
  for (;;) {
    if (Atomics.load(words, VCPU_WORD.command) === VCPU_COMMAND.stop) return false;
    const ready = Atomics.load(shared.words, VM_WORD.apsReady);
    if (!bsp || ready >= apsAtStart) return true;
    Atomics.wait(shared.words, VM_WORD.apsReady, ready, STOP_CHECK_MS);
  }
}
