/**
 * AP threads: each runs the KVM_RUN of one AP in machine code, waiting for its SIPI and then running the
 * guest, until the vCPU exits to user space. A Worker then handles that exit and runs the vCPU. An AP that
 * never exits needs no Worker: one that is kicked is held by its thread until the main thread says how it goes on.
 */
import { AFFINITY_ADVICE, cpuMask } from '../ffi/affinity.ts';
import { SyscallError } from '../ffi/errno.ts';
import { wakeFutex } from '../ffi/futex.ts';
import { addressOf, type HostPointer } from '../ffi/libc.ts';
import { onWake, wakeFd } from '../ffi/wake-stream.ts';
import { MAP, Mapping, PROT } from '../ffi/mapping.ts';
import { niceAdvice } from '../ffi/priority.ts';
import { mapCode, startThread } from '../ffi/native-thread.ts';
import { pauseThread } from '../ffi/thread.ts';
import { putAscii, putU64 } from '../binary/bytes.ts';
import { VoltError } from '../volt-error.ts';
import { AP_CALL, AP_ORDER, AP_THREAD, apThreadCode, NICE_UNCHANGED } from './ap-thread-code.ts';

export interface ApThreadStart {
  readonly index: number;
  readonly vcpuFd: number;
  /** The vCPU's struct kvm_mp_state, refreshed after an INIT. SAFETY: memory that outlives the thread. */
  readonly mpState: Uint8Array;
  /** Host CPUs and nice value that the thread sets for itself; undefined: those of the process. */
  readonly scheduling: { readonly cpus: readonly number[] | undefined; readonly nice: number | undefined };
  /** From `placeFilter`: the seccomp filter that the thread installs for itself. */
  readonly filter: HostPointer | undefined;
}

/** A vCPU that has left KVM_RUN; `result` is what KVM_RUN returned: 0 or -errno. */
export interface ApExit {
  readonly index: number;
  readonly result: number;
}

const START_TIMEOUT_MS = 5000;
const POLL_MICROSECONDS = 10;

/** Shared by all machines of the process. */
let code: HostPointer | undefined;

/**
 * The AP threads of one machine. Construct before the sandbox is entered, which allows neither new sockets
 * nor new executable memory.
 */
export class ApThreads implements Disposable {
  /** SAFETY: rows that the threads write; unmapped on dispose, after all threads have left KVM_RUN. */
  readonly #rows: Mapping;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #running = new Set<number>();
  /** Those of them that were reported as held. */
  readonly #held = new Set<number>();
  readonly #stopListening: () => void;

  /**
   * For vCPUs with indices below `limit`. The event loop calls `onExit` with exits that `waitForExits` has
   * not returned, and `onHeld` for each vCPU that a kick has taken out of KVM_RUN: it stays out until `run` or
   * `leave`.
   */
  constructor(
    limit: number,
    onExit: (exits: readonly ApExit[]) => void,
    onHeld: (index: number) => void = () => {},
  ) {
    code ??= mapCode(apThreadCode());
    this.#rows = new Mapping({
      bytes: limit * AP_THREAD.size,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous,
      what: 'AP threads',
    });
    const buffer = this.#rows.view(0, limit * AP_THREAD.size);
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
    this.#stopListening = onWake(() => {
      const exits = this.#takeExits();
      if (exits.length > 0) onExit(exits);
      for (const index of this.#takeHeld()) onHeld(index);
    });
  }

  /** Lets a held vCPU run again. */
  run(index: number): void {
    this.#held.delete(index);
    // Before the order: the thread may be kicked out again at once.
    this.#store(index, AP_THREAD.held, 0);
    this.#order(index, AP_ORDER.run);
  }

  /** Ends the thread of a vCPU that is held, or as soon as it is: its exit has the result -EINTR. */
  leave(index: number): void {
    this.#held.delete(index);
    if (this.#running.has(index)) this.#order(index, AP_ORDER.leave);
  }

  #order(index: number, order: number): void {
    this.#store(index, AP_THREAD.order, order);
    wakeFutex((this.#rows.address + index * AP_THREAD.size + AP_THREAD.order) as HostPointer);
  }

  /** Those that were not reported before. */
  #takeHeld(): number[] {
    const isNew = (index: number) => !this.#held.has(index) && this.#word(index, AP_THREAD.held) !== 0;
    const held = [...this.#running].filter(isNew);
    held.forEach((index) => this.#held.add(index));
    return held;
  }

  /**
   * Starts one thread per vCPU and calls `onStarted` for each that is about to enter KVM_RUN; returns after
   * the last. Throws SyscallError or VoltError 'host' for the first that fails; the threads before it keep
   * running.
   */
  start(vcpus: readonly ApThreadStart[], onStarted: (index: number, threadId: number) => void): void {
    let failure: unknown;
    const started = vcpus.filter((vcpu) => {
      try {
        if (failure === undefined) this.#startThread(code!, vcpu);
      } catch (error) {
        failure = error;
      }
      return failure === undefined;
    });
    const deadline = performance.now() + START_TIMEOUT_MS;
    // Reports all started threads before it throws: the caller can only kick threads whose ids it knows.
    for (const { index } of started) {
      try {
        onStarted(index, this.#awaitThreadId(index, deadline));
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Exits that were not returned before. */
  #takeExits(): ApExit[] {
    const exits: ApExit[] = [];
    for (const index of this.#running) {
      if (this.#word(index, AP_THREAD.exited) === 0) continue;
      this.#running.delete(index);
      this.#held.delete(index);
      exits.push({ index, result: this.#word(index, AP_THREAD.result) });
    }
    return exits;
  }

  /** Whether all threads have left KVM_RUN, so that none uses the machine's memory any more. */
  get allExited(): boolean {
    return this.#running.size === 0;
  }

  /**
   * Blocks until all threads have left KVM_RUN, at most `timeoutMs`; returns the exits not returned before.
   */
  waitForExits(timeoutMs: number): ApExit[] {
    const exits = this.#takeExits();
    const deadline = performance.now() + timeoutMs;
    while (this.#running.size > 0 && performance.now() < deadline) {
      pauseThread(POLL_MICROSECONDS);
      exits.push(...this.#takeExits());
    }
    return exits;
  }

  /** Only after all threads have left KVM_RUN (`allExited`). */
  [Symbol.dispose](): void {
    this.#stopListening();
    this.#rows[Symbol.dispose]();
  }

  #startThread(at: HostPointer, { index, vcpuFd, mpState, scheduling, filter }: ApThreadStart): void {
    const row = index * AP_THREAD.size;
    const view = this.#view;
    view.setInt32(row + AP_THREAD.vcpuFd, vcpuFd, true);
    view.setInt32(row + AP_THREAD.notifyFd, wakeFd(), true);
    putU64(view, row + AP_THREAD.filter, filter ?? 0);
    putU64(view, row + AP_THREAD.mpState, addressOf(mpState));
    putAscii(new Uint8Array(view.buffer, row + AP_THREAD.name, 16), 0, `vcpu${index}`);
    view.setInt32(row + AP_THREAD.pins, scheduling.cpus ? 1 : 0, true);
    if (scheduling.cpus) new Uint8Array(view.buffer, row + AP_THREAD.cpus).set(cpuMask(scheduling.cpus));
    view.setInt32(row + AP_THREAD.nice, scheduling.nice ?? NICE_UNCHANGED, true);
    view.setInt32(row + AP_THREAD.threadId, 0, true);
    view.setInt32(row + AP_THREAD.exited, 0, true);
    view.setInt32(row + AP_THREAD.result, 0, true);
    view.setInt32(row + AP_THREAD.held, 0, true);
    view.setInt32(row + AP_THREAD.order, AP_ORDER.none, true);
    startThread(at, (this.#rows.address + row) as HostPointer);
    this.#running.add(index);
  }

  #awaitThreadId(index: number, deadline: number): number {
    for (;;) {
      // `exited` first: in the other order, a thread that sets its id and exits in between would look failed.
      const exited = this.#word(index, AP_THREAD.exited) !== 0;
      const threadId = this.#word(index, AP_THREAD.threadId);
      if (threadId !== 0) return threadId;
      if (exited) throw new VoltError('host', `Cannot start vCPU ${index}: ${this.#failure(index).message}`);
      if (performance.now() > deadline) {
        throw new VoltError(
          'host',
          `Cannot start vCPU ${index}: its thread does not reach KVM_RUN within ${START_TIMEOUT_MS} ms; try again when the host is less busy`,
        );
      }
      pauseThread(POLL_MICROSECONDS);
    }
  }

  /** Of the system call by which a thread was to prepare itself. */
  #failure(index: number): SyscallError {
    const errno = -this.#word(index, AP_THREAD.result);
    switch (this.#word(index, AP_THREAD.call)) {
      case AP_CALL.setAffinity:
        return new SyscallError('sched_setaffinity', errno, AFFINITY_ADVICE);
      case AP_CALL.setPriority:
        return new SyscallError('setpriority', errno, niceAdvice(errno));
      default:
        return new SyscallError('seccomp', errno);
    }
  }

  #word(index: number, field: number): number {
    return Atomics.load(this.#words, (index * AP_THREAD.size + field) / 4);
  }

  #store(index: number, field: number, value: number): void {
    Atomics.store(this.#words, (index * AP_THREAD.size + field) / 4, value);
  }
}
