/**
 * Moves memory to and from files on threads of machine code, so that several CPUs copy and JavaScript goes on.
 * They make no system calls but pread, pwrite and write, and those of a thread's start and end.
 */
import { putAscii, putU64 } from '../binary/bytes.ts';
import { COPY_CHUNK, COPY_FLAG, COPY_JOB, copyThreadCode } from './copy-thread-code.ts';
import { type HostPointer } from './libc.ts';
import { MAP, Mapping, PROT } from './mapping.ts';
import { mapCode, startThread } from './native-thread.ts';
import { pauseThread } from './thread.ts';
import { onWake, wakeFd } from './wake-stream.ts';

/**
 * A chunk to copy, below 2 GiB.
 * SAFETY: [host, host + bytes) must stay mapped, and `fd` open, until the job has ended.
 */
export interface CopyChunk {
  readonly host: number;
  readonly bytes: number;
  readonly fd: number;
  readonly offset: number;
  /** From the file to memory; otherwise from memory to the file. */
  readonly read?: boolean;
  /**
   * Writes pages of zeroes too. Otherwise they are skipped, for a file that has holes there; then `host` and
   * `bytes` are those of whole pages.
   */
  readonly whole?: boolean;
}

/** Between looks at a job, first and at most: each costs CPU time that the threads want. */
const FIRST_POLL_MICROSECONDS = 20;
const LAST_POLL_MICROSECONDS = 500;

let code: HostPointer | undefined;

/**
 * Maps the code of the threads and creates the socket that they wake the event loop with. In a sandbox, which
 * allows neither, call it before. Throws SyscallError.
 */
export function prepareCopyThreads(): void {
  code ??= mapCode(copyThreadCode());
  wakeFd();
}

/** Copies all of its chunks, each on one of its threads. Dispose only when it has ended. */
export class CopyJob implements Disposable {
  /** SAFETY: the table and the chunks, which the threads access until the last one has ended. */
  readonly #table: Mapping;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;

  /** Starts up to `threads` threads, one at least. Throws SyscallError if none can be started. */
  constructor(chunks: readonly CopyChunk[], threads: number) {
    prepareCopyThreads();
    const bytes = COPY_JOB.size + chunks.length * COPY_CHUNK.size;
    this.#table = new Mapping({
      bytes,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous,
      what: 'a copy job',
    });
    const buffer = this.#table.view(0, bytes);
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer, 0, COPY_JOB.size / 4);
    this.#longs = new BigInt64Array(buffer, 0, COPY_JOB.size / 8);
    putU64(this.#view, COPY_JOB.chunks, this.#table.address + COPY_JOB.size);
    putU64(this.#view, COPY_JOB.count, chunks.length);
    this.#view.setInt32(COPY_JOB.notifyFd, wakeFd(), true);
    putAscii(new Uint8Array(buffer, COPY_JOB.name, 16), 0, 'copy');
    chunks.forEach((chunk, i) => this.#putChunk(COPY_JOB.size + i * COPY_CHUNK.size, chunk));
    this.#start(Math.max(1, Math.min(threads, chunks.length)));
  }

  /** Bytes dealt with so far, skipped pages included. */
  get done(): number {
    return Number(Atomics.load(this.#longs, COPY_JOB.done / 8));
  }

  /** Bytes read or written so far. */
  get moved(): number {
    return Number(Atomics.load(this.#longs, COPY_JOB.moved / 8));
  }

  /** errno of the first chunk that failed, EIO for one at the end of its file; 0 without a failure. */
  get errno(): number {
    return 0 - Number(Atomics.load(this.#longs, COPY_JOB.error / 8));
  }

  /** Whether all threads have ended: none accesses memory any more. */
  get ended(): boolean {
    return Atomics.load(this.#words, COPY_JOB.running / 4) === 0;
  }

  /** Makes the threads end after the call that they are in. */
  cancel(): void {
    Atomics.store(this.#longs, COPY_JOB.stop / 8, 1n);
  }

  /** Blocks until all threads have ended. */
  wait(): void {
    for (
      let pause = FIRST_POLL_MICROSECONDS;
      !this.ended;
      pause = Math.min(2 * pause, LAST_POLL_MICROSECONDS)
    )
      pauseThread(pause);
  }

  /** Resolves when all threads have ended. */
  async finished(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const stopListening = onWake(() => this.ended && resolve());
    try {
      if (!this.ended) await promise;
    } finally {
      stopListening();
    }
  }

  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }

  #putChunk(at: number, { host, bytes, fd, offset, read = false, whole = false }: CopyChunk): void {
    const view = this.#view;
    putU64(view, at + COPY_CHUNK.host, host);
    putU64(view, at + COPY_CHUNK.bytes, bytes);
    putU64(view, at + COPY_CHUNK.offset, offset);
    view.setInt32(at + COPY_CHUNK.fd, fd, true);
    const flags = (read ? COPY_FLAG.read | COPY_FLAG.whole : 0) | (whole ? COPY_FLAG.whole : 0);
    view.setUint32(at + COPY_CHUNK.flags, flags, true);
  }

  #start(threads: number): void {
    // Counts before the thread runs: it may have ended when this continues.
    for (let started = 0; started < threads; started++) {
      Atomics.add(this.#words, COPY_JOB.running / 4, 1);
      try {
        startThread(code!, this.#table.address);
      } catch (error) {
        Atomics.sub(this.#words, COPY_JOB.running / 4, 1);
        if (started > 0) return;
        this.#table[Symbol.dispose]();
        throw error;
      }
    }
  }
}
