/**
 * The threads in which vCPUs run.
 *
 * The BSP has a Worker from the start. An AP begins on a thread without JavaScript
 * (`kvm/ap-threads.ts`), which keeps it in KVM_RUN while it waits for its SIPI and runs the guest; it
 * gets a Worker when it first exits to user space. An AP that never exits costs no Worker, which
 * takes 5 ms and 2 MB: such as 64 vCPUs that are paused for a snapshot. While its thread holds it after a kick, the
 * main thread obeys in its place.
 */
import type { HostPointer } from '../../ffi/libc.ts';
import { ApThreads, type ApExit } from '../../kvm/ap-threads.ts';
import { RUN } from '../../kvm/abi.ts';
import { workerErrorLine } from '../../runtime/worker-url.ts';
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
import { publishSample } from './commands.ts';
import { kick } from './control.ts';
import { vcpuQueries } from './queries.ts';
import type { VcpuMessage } from './report.ts';
import { isSchedulingWanted } from './scheduling.ts';
import type { Vcpu } from './vcpu.ts';
import type { WorkerPool } from './worker-pool.ts';
import type { MachineLink, VcpuStart } from './worker.ts';

export interface VcpuThreadsOptions {
  /** The machine as every vCPU's Worker needs it. */
  readonly link: MachineLink;
  readonly shared: SharedState;
  readonly workers: WorkerPool;
  /** Called when a vCPU has left KVM_RUN for good and its thread says why. */
  readonly onReport: (message: VcpuMessage) => void;
}

export class VcpuThreads implements Disposable {
  readonly #options: VcpuThreadsOptions;
  /** undefined: every vCPU has a Worker. */
  readonly #waiting: ApThreads | undefined;
  /** vCPUs that were started, by index. */
  readonly #vcpus: Vcpu[] = [];
  #filter: HostPointer | undefined;

  /** To be made before the sandbox is entered, which allows no new socket for waiting threads. */
  constructor(options: VcpuThreadsOptions) {
    this.#options = options;
    const { vcpuCount, timeline } = options.link;
    // The timeline polls for the SIPI of each AP, which takes JavaScript.
    if (vcpuCount > 1 && !timeline)
      this.#waiting = new ApThreads(
        vcpuCount,
        (left) => left.forEach((each) => this.#takeOver(each)),
        (index) => this.#obeyHeld(this.#vcpus[index]!),
      );
  }

  /**
   * Starts the threads of vCPUs: first those of waiting APs, then Workers, so that the BSP finds its APs
   * ready. `filter` is a placed system call filter that each thread installs before it enters the guest; by
   * default that of the call before. Throws SyscallError and VoltError 'host' for a thread that cannot be
   * started; vCPUs without a thread count as ended then.
   */
  start(vcpus: readonly Vcpu[], filter: HostPointer | undefined = this.#filter): void {
    this.#filter = filter;
    for (const vcpu of vcpus) this.#vcpus[vcpu.index] = vcpu;
    const waiting = vcpus.filter((vcpu) => this.#mayWait(vcpu));
    const others = vcpus.filter((vcpu) => !waiting.includes(vcpu));
    try {
      this.#startWaiting(waiting);
      Atomics.add(this.#options.shared.words, VM_WORD.apsReady, waiting.length);
      for (; others.length > 0; others.shift()) this.#startWorker(others[0]!);
    } catch (error) {
      // `others` are those for which no Worker was started.
      [...waiting, ...others].filter(({ words }) => isThreadless(words)).forEach(noteStopped);
      throw error;
    }
  }

  /** Makes a vCPU leave the guest for good, whose command is to stop. */
  stop(vcpu: Vcpu): void {
    // First, so that it need not wait for the event loop of this thread.
    this.#waiting?.leave(vcpu.index);
    kick(vcpu);
  }

  /** False while a thread without JavaScript may still use what the machine has mapped. */
  get allExited(): boolean {
    return this.#waiting?.allExited ?? true;
  }

  /**
   * Blocks until waiting threads have obeyed a stop and left KVM_RUN, which needs no Worker, or until the
   * timeout.
   */
  awaitWaiting(timeoutMs: number): void {
    for (const { index } of this.#waiting?.waitForExits(timeoutMs) ?? []) noteStopped(this.#vcpus[index]!);
  }

  terminateWorkers(): void {
    this.#options.workers[Symbol.dispose]();
  }

  /** When all threads have left. */
  [Symbol.dispose](): void {
    this.#waiting?.[Symbol.dispose]();
  }

  #mayWait({ index }: Vcpu): boolean {
    return this.#waiting !== undefined && index !== this.#options.link.bootCpu;
  }

  #startWaiting(vcpus: readonly Vcpu[]): void {
    if (vcpus.length === 0) return;
    const { shared } = this.#options;
    const starts = vcpus.map(({ index, kvm, words, scheduling }) => {
      const at = words.byteOffset + 4 * VCPU_WORD.mpState;
      const mpState = new Uint8Array(words.buffer as never, at, 4);
      return { index, vcpuFd: kvm.fd, mpState, scheduling, filter: this.#filter };
    });
    this.#waiting!.start(starts, (index, threadId) => {
      const { words } = this.#vcpus[index]!;
      Atomics.store(words, VCPU_WORD.threadId, threadId);
      setPhase(words, VCPU_PHASE.running);
      shared.vcpuMoments(index)[VCPU_MOMENT.entered] = now();
    });
  }

  /** Obeys the commands of a vCPU that its thread holds, as `obeyCommands` does on a Worker. */
  #obeyHeld(vcpu: Vcpu): void {
    const { index, kvm, words, runFlags } = vcpu;
    vcpu.held = () => this.#obeyHeld(vcpu);
    runFlags[RUN.immediateExit] = 0;
    const moments = this.#options.shared.vcpuMoments(index);
    const sample = () => publishSample({ kvm: vcpuQueries(kvm.fd), words, moments });
    const wanted = Atomics.load(words, VCPU_WORD.sampleWanted);
    if (wanted !== Atomics.load(words, VCPU_WORD.sampleDone)) {
      sample();
      Atomics.store(words, VCPU_WORD.sampleDone, wanted);
      Atomics.notify(words, VCPU_WORD.sampleDone);
    }
    // A thread sets its scheduling for itself: that takes a Worker.
    if (isSchedulingWanted(words)) return this.#endHold(vcpu, 'leave');
    const command = Atomics.load(words, VCPU_WORD.command);
    switch (command) {
      case VCPU_COMMAND.run:
        setPhase(words, VCPU_PHASE.running);
        return this.#endHold(vcpu, 'run');
      case VCPU_COMMAND.stop:
        return this.#endHold(vcpu, 'leave');
      default:
        sample();
        setPhase(words, command === VCPU_COMMAND.park ? VCPU_PHASE.parked : VCPU_PHASE.paused);
    }
  }

  #endHold(vcpu: Vcpu, order: 'run' | 'leave'): void {
    vcpu.held = undefined;
    this.#waiting![order](vcpu.index);
  }

  /** A vCPU has left KVM_RUN on its waiting thread: a Worker handles that exit and goes on. */
  #takeOver({ index, result }: ApExit): void {
    const vcpu = this.#vcpus[index]!;
    vcpu.held = undefined;
    if (Atomics.load(vcpu.words, VCPU_WORD.command) !== VCPU_COMMAND.stop) {
      // Not for a kick, which is no exit of the guest.
      if (result >= 0) noteFirstExit(this.#options.shared.vcpuMoments(index));
      this.#startWorker(vcpu, result);
      return;
    }
    setPhase(vcpu.words, VCPU_PHASE.stopped);
    this.#options.onReport({ index, report: { kind: 'stopped' } });
  }

  /** `pending` is what KVM_RUN returned on the thread that the vCPU had before. */
  #startWorker({ kvm, index, scheduling }: Vcpu, pending?: number): void {
    const { link, workers, onReport } = this.#options;
    const worker = workers.take();
    worker.onmessage = ({ data }: MessageEvent<VcpuMessage>) => onReport(data);
    worker.onerror = (event) => {
      event.preventDefault();
      onReport({ index, report: { kind: 'failed', message: workerErrorLine(event.message) } });
    };
    const start: VcpuStart = {
      ...link,
      index,
      vcpuFd: kvm.fd,
      runAddress: kvm.runPage.address,
      runBytes: kvm.runPage.bytes,
      scheduling,
      filter: this.#filter,
      pending,
    };
    worker.postMessage(start);
  }
}

function noteFirstExit(moments: Float64Array): void {
  if (moments[VCPU_MOMENT.firstExit] === 0) moments[VCPU_MOMENT.firstExit] = now();
}

export function isThreadless(words: Int32Array): boolean {
  return Atomics.load(words, VCPU_WORD.threadId) === 0;
}

function noteStopped(vcpu: Vcpu): void {
  vcpu.held = undefined;
  vcpu.ended = true;
  setPhase(vcpu.words, VCPU_PHASE.stopped);
}
