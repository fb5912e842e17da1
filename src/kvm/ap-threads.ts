/**
 * Threads of vCPUs that do not need Volt yet: each sits in KVM_RUN, where it waits for its SIPI and then runs the guest,
 * until the vCPU exits to user space or is kicked for the first time. Whoever takes it over then goes on from there.
 */
import { addressOf, type HostPointer } from '../ffi/libc.ts';
import { wakeFd, onWake } from '../ffi/wake-stream.ts';
import { MAP, Mapping, PROT } from '../ffi/mapping.ts';
import { mapCode, startThread } from '../ffi/native-thread.ts';
import { pauseThread } from '../ffi/thread.ts';
import { putAscii, putU64 } from '../binary/bytes.ts';
import { VoltError } from '../volt-error.ts';
import { AP_THREAD, apThreadCode } from './ap-thread-code.ts';

export interface ApThreadStart {
  readonly index: number;
  readonly vcpuFd: number;
  /** A struct kvm_mp_state of its own, in memory that stays; brought up to date when an INIT arrives. */
  readonly mpState: Uint8Array;
  readonly filter: HostPointer | undefined;
}

/** A vCPU that has left KVM_RUN: what that returned, 0 or a negated errno. */
export interface ApExit {
  readonly index: number;
  readonly result: number;
}

const START_TIMEOUT_MS = 5000;
const POLL_MICROSECONDS = 10;

/** One place for all code, as it is the same for every machine of the process. */
let code: HostPointer | undefined;

/** Up to `limit` such threads of one machine. Made before the sandbox is entered for the first time. */
export class ApThreads implements Disposable {
  /** SAFETY: rows that threads write to; unmapped on dispose, when none of them is left. */
  readonly #rows: Mapping;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #waiting = new Set<number>();
  readonly #stopReading: () => void;

  /** `onLeft` is told of those that `waitForExits` does not return, from the event loop. */
  constructor(limit: number, onLeft: (left: readonly ApExit[]) => void) {
    this.#rows = new Mapping({
      bytes: limit * AP_THREAD.size,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous,
      what: 'waiting vCPUs',
    });
    const buffer = this.#rows.view(0, limit * AP_THREAD.size);
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
    this.#stopReading = onWake(() => {
      const left = this.#takeLeft();
      if (left.length > 0) onLeft(left);
    });
  }

  /**
   * Starts threads, tells of each when it is about to enter KVM_RUN, and returns after the last. Throws SyscallError and
   * VoltError 'host' for the first that does not get there; those before it run then.
   */
  start(vcpus: readonly ApThreadStart[], onStarted: (index: number, threadId: number) => void): void {
    code ??= mapCode(apThreadCode());
    let failure: unknown;
    const started = vcpus.filter((vcpu) => {
      try {
        if (failure === undefined) this.#startOne(code!, vcpu);
      } catch (error) {
        failure = error;
      }
      return failure === undefined;
    });
    const deadline = performance.now() + START_TIMEOUT_MS;
    // All are told of before any trouble: only who knows a thread's id can kick it.
    for (const { index } of started) {
      try {
        onStarted(index, this.#awaitThreadId(index, deadline));
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Those that have left KVM_RUN and were not told of before. */
  #takeLeft(): ApExit[] {
    const left: ApExit[] = [];
    for (const index of this.#waiting) {
      if (this.#word(index, AP_THREAD.exited) === 0) continue;
      this.#waiting.delete(index);
      left.push({ index, result: this.#word(index, AP_THREAD.result) });
    }
    return left;
  }

  /** Whether no thread uses anything of the machine any more. */
  get allExited(): boolean {
    return this.#waiting.size === 0;
  }

  /** Those that leave within `timeoutMs`; as soon as none waits any more. */
  waitForExits(timeoutMs: number): ApExit[] {
    const left = this.#takeLeft();
    const deadline = performance.now() + timeoutMs;
    while (this.#waiting.size > 0 && performance.now() < deadline) {
      pauseThread(POLL_MICROSECONDS);
      left.push(...this.#takeLeft());
    }
    return left;
  }

  /** After all threads have left. */
  [Symbol.dispose](): void {
    this.#stopReading();
    this.#rows[Symbol.dispose]();
  }

  #startOne(at: HostPointer, { index, vcpuFd, mpState, filter }: ApThreadStart): void {
    const row = index * AP_THREAD.size;
    const view = this.#view;
    view.setInt32(row + AP_THREAD.vcpuFd, vcpuFd, true);
    view.setInt32(row + AP_THREAD.notifyFd, wakeFd(), true);
    putU64(view, row + AP_THREAD.filter, filter ?? 0);
    putU64(view, row + AP_THREAD.mpState, addressOf(mpState));
    putAscii(new Uint8Array(view.buffer, row + AP_THREAD.name, 16), 0, `vcpu${index}`);
    view.setInt32(row + AP_THREAD.threadId, 0, true);
    view.setInt32(row + AP_THREAD.exited, 0, true);
    view.setInt32(row + AP_THREAD.result, 0, true);
    startThread(at, (this.#rows.address + row) as HostPointer);
    this.#waiting.add(index);
  }

  #awaitThreadId(index: number, deadline: number): number {
    for (;;) {
      // In this order: a thread that has its id may have left before the next look.
      const left = this.#word(index, AP_THREAD.exited) !== 0;
      const threadId = this.#word(index, AP_THREAD.threadId);
      if (threadId !== 0) return threadId;
      if (left || performance.now() > deadline) {
        const how = left ? `errno ${-this.#word(index, AP_THREAD.result)}` : `${START_TIMEOUT_MS} ms went by`;
        throw new VoltError(
          'host',
          `Cannot start vCPU ${index}: its thread does not get to KVM_RUN, ${how} (expected it to wait there)`,
        );
      }
      pauseThread(POLL_MICROSECONDS);
    }
  }

  #word(index: number, field: number): number {
    return Atomics.load(this.#words, (index * AP_THREAD.size + field) / 4);
  }
}
