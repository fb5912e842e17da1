/**
 * The vCPUs of one machine with their threads, from the first to the last.
 *
 * The BSP has a Worker from the start. An AP gets its Worker when it needs Volt for the first time: until then a thread
 * without JavaScript keeps it in KVM_RUN, where it waits for its SIPI and runs the guest. A guest that starts no AP, or
 * whose APs make no exits, pays nothing for them; a Worker takes 5 ms and 2 MB.
 */
import { setThreadAffinity } from '../../ffi/affinity.ts';
import type { HostPointer } from '../../ffi/libc.ts';
import { KVM_MP_STATE, RUN } from '../../kvm/abi.ts';
import { readMpState, writeMpState, type KvmVcpu } from '../../kvm/vcpu.ts';
import { WaitingThreads, type LeftVcpu } from '../../kvm/waiting-threads.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { encodeMsi } from '../../smp/ipi.ts';
import { mpStateName } from '../../smp/vcpu-state.ts';
import { VoltError } from '../../volt-error.ts';
import { applyCommonState } from '../apply.ts';
import type { VmConfig } from '../../config/config.ts';
import { needsX2apicMode, type HostFacts, type MachinePlan } from '../../plan/plan.ts';
import {
  now,
  setPhase,
  VCPU_COMMAND,
  VCPU_MOMENT,
  VCPU_PHASE,
  VCPU_WORD,
  VM_WORD,
  type SharedState,
} from '../bus/shared-state.ts';
import { kick, parkVcpu, unparkVcpu, waitUntilRunning, type LiveVcpu } from './control.ts';
import { VcpuCpuid } from './cpuid.ts';
import type { VcpuMessage } from './report.ts';
import type { VcpuStart } from './worker.ts';
import type { VirtioLink } from '../../virtio/host/bus.ts';
import { workerErrorLine, workerUrl } from '../../runtime/worker-url.ts';

interface Vcpu extends LiveVcpu {
  worker: Worker | undefined;
  ended: boolean;
}

/** What every vCPU is made of. */
export interface VcpuParts {
  readonly config: VmConfig;
  readonly plan: MachinePlan;
  readonly vm: KvmVm;
  readonly host: HostFacts;
  readonly shared: SharedState;
  readonly virtio: readonly VirtioLink[];
  readonly timeline: boolean;
}

/** A thread in KVM_RUN leaves it microseconds after a kick; one that takes longer is told of by the event loop. */
const LEAVE_MS = 2;
/** How long `waitUntilStopped` waits for threads that do not leave the guest. */
const STOP_TIMEOUT_MS = 5000;

export class VcpuSet {
  readonly #spare: Worker[];
  readonly #workers: Worker[];
  readonly #vcpus: Vcpu[] = [];
  #parts!: VcpuParts;
  #cpuid: VcpuCpuid | undefined;
  #onReport: (message: VcpuMessage) => void = () => {};
  #filter: HostPointer | undefined;
  #waiting: WaitingThreads | undefined;
  #stopping = false;

  /** Workers take the longest to come up, so those that are needed at once, `count`, start now. */
  constructor(count: number) {
    this.#workers = Array.from({ length: count }, spawnWorker);
    this.#spare = [...this.#workers];
  }

  /** Takes the vCPUs that there are from the start, in order; they run after `start`. */
  prepare(parts: VcpuParts, kvmVcpus: readonly KvmVcpu[]): void {
    this.#parts = parts;
    const { config, timeline } = parts;
    if (config.maxCpus > 1 && !timeline)
      this.#waiting = new WaitingThreads(config.maxCpus, (left) =>
        left.forEach((each) => this.#takeOver(each)),
      );
    for (const kvm of kvmVcpus) this.#add(kvm);
  }

  /** Every vCPU's thread lays this placed filter over itself before it enters the guest. Before `start`. */
  confine(filter: HostPointer): void {
    this.#filter = filter;
  }

  start(onReport: (message: VcpuMessage) => void): void {
    this.#onReport = onReport;
    const { shared } = this.#parts;
    const waiting = this.#vcpus.filter((vcpu) => this.#mayWait(vcpu));
    try {
      this.#startWaiting(waiting);
    } catch (error) {
      // Nobody is to wait for the end of those that have no thread.
      this.#vcpus.forEach(giveUpWithoutThread);
      throw error;
    }
    // The BSP runs when all APs are about to.
    Atomics.add(shared.words, VM_WORD.apsReady, waiting.length);
    for (const vcpu of this.#vcpus) if (!waiting.includes(vcpu)) this.#startWorker(vcpu);
  }

  /** Those that are in the machine now, by ascending index. */
  get present(): readonly LiveVcpu[] {
    return this.#vcpus.filter(
      ({ words, ended }) =>
        Atomics.load(words, VCPU_WORD.phase) !== VCPU_PHASE.parked && !(ended && isThreadless(words)),
    );
  }

  get allEnded(): boolean {
    return this.#vcpus.every(({ ended }) => ended);
  }

  get kvmVcpus(): readonly KvmVcpu[] {
    return this.#vcpus.map(({ kvm }) => kvm);
  }

  /** False when that was known. */
  noteEnd(index: number): boolean {
    const vcpu = this.#vcpus[index];
    if (!vcpu || vcpu.ended) return false;
    vcpu.ended = true;
    return true;
  }

  /** Has all of them leave the guest for good, and no others come. */
  stop(): void {
    this.#stopping = true;
    for (const vcpu of this.#vcpus) {
      const { words, ended } = vcpu;
      if (ended || Atomics.exchange(words, VCPU_WORD.command, VCPU_COMMAND.stop) === VCPU_COMMAND.stop)
        continue;
      Atomics.notify(words, VCPU_WORD.command);
      kick(vcpu);
    }
    this.#endWaiting(LEAVE_MS);
  }

  /** Blocks, for microseconds as a rule, until the threads have left the guest. False when one does not. */
  waitUntilStopped(): boolean {
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    this.#endWaiting(STOP_TIMEOUT_MS);
    if (this.#waiting?.allLeft === false) return false;
    return this.#vcpus.every(({ words }) => {
      for (;;) {
        const phase = Atomics.load(words, VCPU_WORD.phase);
        if (phase === VCPU_PHASE.stopped) return true;
        const left = deadline - performance.now();
        if (left <= 0) return false;
        Atomics.wait(words, VCPU_WORD.phase, phase, left);
      }
    });
  }

  terminateWorkers(): void {
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }

  /** After `waitUntilStopped` was true. */
  [Symbol.dispose](): void {
    this.#waiting?.[Symbol.dispose]();
  }

  /**
   * Makes vCPU `index` wait for its SIPI: a parked one, or the one after the last, since the lowest free ones are
   * plugged first. `own` takes what was made. Resolves when its worker is in its loop.
   */
  ready(index: number, own: (kvm: KvmVcpu) => void): Promise<void> {
    if (this.#stopping) {
      throw new VoltError('usage', `Cannot plug vCPU ${index}: the guest has ended (expected one that runs)`);
    }
    const known = this.#vcpus[index];
    if (known && !known.ended) {
      // One that an attempt which failed later has made ready waits for its SIPI already.
      if (Atomics.load(known.words, VCPU_WORD.phase) !== VCPU_PHASE.running) {
        resetToWait(this.#parts.vm, known.kvm);
        unparkVcpu(known);
      }
      return waitUntilRunning(known);
    }
    // KVM cannot unmake a vCPU: one whose thread could not be made waits for the next attempt.
    const vcpu = known ?? this.#make(index, own);
    vcpu.ended = false;
    setPhase(vcpu.words, VCPU_PHASE.created);
    try {
      if (this.#mayWait(vcpu)) this.#startWaiting([vcpu]);
      else this.#startWorker(vcpu);
    } catch (error) {
      giveUpWithoutThread(vcpu);
      throw error;
    }
    return waitUntilRunning(vcpu);
  }

  /** Resolves when the vCPU is out of the guest until it is plugged again. */
  park(index: number): Promise<void> {
    return parkVcpu(this.#vcpus[index]!);
  }

  #make(index: number, own: (kvm: KvmVcpu) => void): Vcpu {
    const kvm = this.#parts.vm.createVcpu(this.#parts.plan.cpus[index]!.apicId);
    own(kvm);
    return this.#add(kvm);
  }

  #add(kvm: KvmVcpu): Vcpu {
    const { plan, host, shared } = this.#parts;
    const index = this.#vcpus.length;
    this.#cpuid ??= new VcpuCpuid(plan, host);
    kvm.setCpuid(this.#cpuid.of(plan.cpus[index]!));
    if (needsX2apicMode(plan)) kvm.startInX2apicMode();
    applyCommonState(kvm);
    const words = shared.vcpuWords(index);
    words[VCPU_WORD.mpState] = checkMpState(kvm.fd, index, index === plan.bootCpu);
    const runFlags = new Uint8Array(kvm.runPage.view(0, RUN.exitReason));
    const { affinity } = this.#parts.config;
    const placement = { cpus: affinity.get(index), nice: undefined };
    const vcpu: Vcpu = { index, kvm, words, runFlags, placement, worker: undefined, ended: false };
    this.#vcpus.push(vcpu);
    return vcpu;
  }

  #spawnLater(): Worker {
    const worker = spawnWorker();
    this.#workers.push(worker);
    return worker;
  }

  /** The timeline looks for the SIPI of each AP, which takes JavaScript. */
  #mayWait({ index }: Vcpu): boolean {
    return index !== this.#parts.plan.bootCpu && !this.#parts.timeline;
  }

  #startWaiting(vcpus: readonly Vcpu[]): void {
    if (vcpus.length === 0) return;
    const { shared } = this.#parts;
    const starts = vcpus.map(({ index, kvm, words }) => {
      const at = words.byteOffset + 4 * VCPU_WORD.mpState;
      const mpState = new Uint8Array(words.buffer as never, at, 4);
      return { index, vcpuFd: kvm.fd, mpState, filter: this.#filter };
    });
    this.#waiting!.start(starts, (index, threadId) => {
      const { words, placement } = this.#vcpus[index]!;
      Atomics.store(words, VCPU_WORD.threadId, threadId);
      setPhase(words, VCPU_PHASE.running);
      shared.vcpuMoments(index)[VCPU_MOMENT.entered] = now();
      if (placement.cpus) setThreadAffinity(threadId, placement.cpus);
    });
  }

  /** Waits for threads that were told to stop, and says so of their vCPUs; no Worker is needed for that. */
  #endWaiting(timeoutMs: number): void {
    for (const { index } of this.#waiting?.waitUntilLeft(timeoutMs) ?? []) {
      const vcpu = this.#vcpus[index]!;
      vcpu.ended = true;
      setPhase(vcpu.words, VCPU_PHASE.stopped);
    }
  }

  /** Of a vCPU that has left KVM_RUN on its waiting thread: a Worker goes on with whatever it left for. */
  #takeOver({ index, result }: LeftVcpu): void {
    const vcpu = this.#vcpus[index]!;
    if (Atomics.load(vcpu.words, VCPU_WORD.command) !== VCPU_COMMAND.stop) {
      this.#startWorker(vcpu, result);
      return;
    }
    setPhase(vcpu.words, VCPU_PHASE.stopped);
    this.#onReport({ index, report: { kind: 'stopped' } });
  }

  #startWorker(vcpu: Vcpu, pending?: number): void {
    const { kvm, index, placement } = vcpu;
    const { config, plan, shared, vm, virtio, timeline } = this.#parts;
    const worker = this.#spare.shift() ?? this.#spawnLater();
    vcpu.worker = worker;
    worker.onmessage = ({ data }: MessageEvent<VcpuMessage>) => this.#onReport(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#onReport({ index, report: { kind: 'failed', message: workerErrorLine(event.message) } });
    };
    const start: VcpuStart = {
      buffer: shared.buffer,
      vcpuCount: shared.vcpuCount,
      index,
      vcpuFd: kvm.fd,
      vmFd: vm.fd,
      runAddress: kvm.runPage.address,
      runBytes: kvm.runPage.bytes,
      ringOffset: vm.ringOffset,
      lowMemoryBytes: plan.ranges[0]!.bytes,
      virtio,
      bootCpu: plan.bootCpu,
      apsAtStart: config.cpus - 1,
      bsp: index === plan.bootCpu,
      placement,
      timeline,
      filter: this.#filter,
      pending,
    };
    worker.postMessage(start);
  }
}

function isThreadless(words: Int32Array): boolean {
  return Atomics.load(words, VCPU_WORD.threadId) === 0;
}

/** Of a vCPU that was to get a thread and has none: nobody is to wait for its end. */
function giveUpWithoutThread(vcpu: Vcpu): void {
  if (!isThreadless(vcpu.words)) return;
  vcpu.ended = true;
  setPhase(vcpu.words, VCPU_PHASE.stopped);
}

function spawnWorker(): Worker {
  return new Worker(workerUrl('vmm/vcpu/worker'), { smol: true });
}

/** A parked vCPU is to wait for its SIPI, wherever the guest left it: KVM's own INIT does that. */
function resetToWait(vm: KvmVm, kvm: KvmVcpu): void {
  vm.signalMsi(encodeMsi({ destination: 0, mode: 'init' }, kvm.apicId));
  // Asking lets KVM take the INIT. An APIC that the guest has switched off takes none.
  if (readMpState(kvm.fd) !== KVM_MP_STATE.initReceived) writeMpState(kvm.fd, KVM_MP_STATE.uninitialized);
}

/** KVM's own account of who may run: a BSP starts runnable, APs uninitialized. Anything else is a defect. */
function checkMpState(vcpuFd: number, index: number, bsp: boolean): number {
  const expected = bsp ? KVM_MP_STATE.runnable : KVM_MP_STATE.uninitialized;
  const found = readMpState(vcpuFd);
  if (found === expected) return found;
  throw new VoltError(
    'internal',
    `Cannot start vCPU ${index}: KVM has it ${mpStateName(found)} (expected ${mpStateName(expected)})`,
  );
}
