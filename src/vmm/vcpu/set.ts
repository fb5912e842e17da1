/** The vCPUs of one machine: which there are, starting and stopping them, plugging and parking. */
import type { HostPointer } from '../../ffi/libc.ts';
import { KVM_MP_STATE, RUN } from '../../kvm/abi.ts';
import { readMpState, writeMpState, type KvmVcpu } from '../../kvm/vcpu.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { encodeMsi } from '../../smp/ipi.ts';
import { VoltError } from '../../volt-error.ts';
import { setPhase, VCPU_COMMAND, VCPU_PHASE, VCPU_WORD, type SharedState } from '../bus/shared-state.ts';
import { parkVcpu, unparkVcpu, waitUntilRunning } from './control.ts';
import type { VcpuFactory } from './factory.ts';
import type { VcpuMessage } from './report.ts';
import { isThreadless, VcpuThreads } from './threads.ts';
import type { Vcpu } from './vcpu.ts';
import type { WorkerPool } from './worker-pool.ts';
import type { MachineLink } from './worker.ts';

export interface VcpuSetOptions {
  readonly vm: KvmVm;
  readonly factory: VcpuFactory;
  readonly link: MachineLink;
  readonly shared: SharedState;
  readonly workers: WorkerPool;
  /** vCPUs that are created at the start. */
  readonly created: number;
  /** Called once for each vCPU that ends by itself or in its Worker, with the reason. */
  readonly onEnd: (message: VcpuMessage) => void;
}

/**
 * A thread in KVM_RUN leaves it microseconds after a kick; one that takes longer is waited for by the event
 * loop.
 */
const LEAVE_MS = 2;
/** How long `waitUntilStopped` waits for threads that do not leave the guest. */
const STOP_TIMEOUT_MS = 5000;

export class VcpuSet implements Disposable {
  readonly #vm: KvmVm;
  readonly #factory: VcpuFactory;
  readonly #vcpus: Vcpu[];
  readonly #threads: VcpuThreads;
  #stopping = false;
  /** Called with a vCPU that is about to be plugged. A debugger's. */
  onPlug: ((vcpu: Vcpu) => void) | undefined;

  /** Creates vCPUs; they run after `start`, but for those of a restored machine that were parked. */
  constructor({ vm, factory, link, shared, workers, created, onEnd }: VcpuSetOptions) {
    this.#vm = vm;
    this.#factory = factory;
    this.#vcpus = Array.from({ length: created }, (_, index) => factory.create(index));
    const onReport = (message: VcpuMessage) => {
      if (this.#noteEnd(message.index)) onEnd(message);
    };
    this.#threads = new VcpuThreads({ link, shared, workers, onReport });
  }

  /** All that were ever created, by index: those that are parked or have ended too. */
  get all(): readonly Vcpu[] {
    return this.#vcpus;
  }

  /** Those that are in the machine now, by ascending index. */
  get present(): readonly Vcpu[] {
    return this.#vcpus.filter(
      ({ words, ended }) =>
        Atomics.load(words, VCPU_WORD.phase) !== VCPU_PHASE.parked && !(ended && isThreadless(words)),
    );
  }

  get allEnded(): boolean {
    return this.#vcpus.every(({ ended }) => ended);
  }

  /** `filter` is a placed system call filter for every vCPU's thread, those of later vCPUs included. */
  start(filter: HostPointer | undefined): void {
    this.#threads.start(
      this.#vcpus.filter(({ ended }) => !ended),
      filter,
    );
  }

  /** Makes all of them leave the guest for good; none can be plugged any more. */
  stop(): void {
    this.#stopping = true;
    for (const vcpu of this.#vcpus) {
      const { words, ended } = vcpu;
      if (ended || Atomics.exchange(words, VCPU_WORD.command, VCPU_COMMAND.stop) === VCPU_COMMAND.stop)
        continue;
      Atomics.notify(words, VCPU_WORD.command);
      this.#threads.stop(vcpu);
    }
    this.#threads.awaitWaiting(LEAVE_MS);
  }

  /** Blocks, usually for microseconds, until the threads have left the guest. False when one does not. */
  waitUntilStopped(): boolean {
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    this.#threads.awaitWaiting(STOP_TIMEOUT_MS);
    return this.#threads.allExited && this.#vcpus.every(({ words }) => waitForStop(words, deadline));
  }

  terminateWorkers(): void {
    this.#threads.terminateWorkers();
  }

  /** After `waitUntilStopped` was true. */
  [Symbol.dispose](): void {
    this.#threads[Symbol.dispose]();
  }

  /**
   * Makes vCPU `index` wait for its SIPI: a parked one, or the one after the last, since the lowest free ones
   * are plugged first. Resolves when its thread runs.
   */
  plug(index: number): Promise<void> {
    if (this.#stopping)
      throw new VoltError('usage', `Cannot plug vCPU ${index}: the guest has ended; start it again`);
    const known = this.#vcpus[index];
    if (known && !known.ended) {
      // One that runs was made ready by an earlier attempt that failed after that, and waits for its SIPI
      // already.
      if (Atomics.load(known.words, VCPU_WORD.phase) !== VCPU_PHASE.running) {
        resetToWait(this.#vm, known.kvm);
        this.onPlug?.(known);
        unparkVcpu(known);
      }
      return waitUntilRunning(known);
    }
    // KVM cannot remove a vCPU: one whose thread could not be started is taken again at the next attempt, and
    // so is one that was parked when the machine was saved.
    if (known) resetToWait(this.#vm, known.kvm);
    const vcpu = known ?? this.#create(index);
    vcpu.ended = false;
    // One that was saved between its ejection and its parking was told to park meanwhile.
    Atomics.store(vcpu.words, VCPU_WORD.command, VCPU_COMMAND.run);
    vcpu.runFlags[RUN.immediateExit] = 0;
    this.onPlug?.(vcpu);
    setPhase(vcpu.words, VCPU_PHASE.created);
    this.#threads.start([vcpu]);
    return waitUntilRunning(vcpu);
  }

  /** Resolves when the vCPU is out of the guest until it is plugged again. */
  park(index: number): Promise<void> {
    return parkVcpu(this.#vcpus[index]!);
  }

  #create(index: number): Vcpu {
    const vcpu = this.#factory.create(index);
    this.#vcpus.push(vcpu);
    return vcpu;
  }

  /** False when that was known. */
  #noteEnd(index: number): boolean {
    const vcpu = this.#vcpus[index];
    if (!vcpu || vcpu.ended) return false;
    vcpu.ended = true;
    return true;
  }
}

function waitForStop(words: Int32Array, deadline: number): boolean {
  for (;;) {
    const phase = Atomics.load(words, VCPU_WORD.phase);
    if (phase === VCPU_PHASE.stopped) return true;
    const left = deadline - performance.now();
    if (left <= 0) return false;
    Atomics.wait(words, VCPU_WORD.phase, phase, left);
  }
}

/** Makes a parked vCPU wait for a SIPI, wherever the guest left it, by an INIT through KVM. */
function resetToWait(vm: KvmVm, kvm: KvmVcpu): void {
  vm.signalMsi(encodeMsi({ destination: 0, mode: 'init' }, kvm.apicId));
  // Reading the MP state lets KVM process the INIT. A local APIC that the guest has disabled takes none.
  if (readMpState(kvm.fd) !== KVM_MP_STATE.initReceived) writeMpState(kvm.fd, KVM_MP_STATE.uninitialized);
}
