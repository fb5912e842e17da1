/**
 * Pages of guest RAM that Volt itself has written, one bit each, in memory that all threads share: KVM's dirty
 * log only knows what a guest writes. Nothing is marked unless tracking is on. Pages count from the start of
 * the first region, the regions being one after the other.
 *
 * A page is marked after it was written, and its bit is taken before it is copied. Whatever the order of the
 * two threads, the write is then in the copy or its bit is in the next set.
 */
import { PAGE_BYTES } from './address.ts';

/** Word 0: not 0 while tracking is on. Bit n of the words from word 1 on: page n. */
const TRACKING = 0;
const FIRST = 1;

export class DirtyPages {
  /** For other threads. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #ramBytes: number;
  readonly #watchers: ((on: boolean) => void)[] = [];

  /** `buffer`: that of the same RAM's DirtyPages in another thread. */
  constructor(ramBytes: number, buffer?: SharedArrayBuffer) {
    this.#ramBytes = ramBytes;
    this.buffer = buffer ?? new SharedArrayBuffer(4 * (FIRST + Math.ceil(ramBytes / PAGE_BYTES / 32)));
    this.#words = new Int32Array(this.buffer);
  }

  get isTracking(): boolean {
    return this.#words[TRACKING] !== 0;
  }

  /** Starts with no page marked. */
  start(): void {
    this.#words.fill(0, FIRST);
    Atomics.store(this.#words, TRACKING, 1);
    for (const watcher of this.#watchers) watcher(true);
  }

  /** Calls `watcher` whenever this object starts or stops tracking, before `start` or `stop` returns. */
  onTracking(watcher: (on: boolean) => void): void {
    this.#watchers.push(watcher);
    if (this.isTracking) watcher(true);
  }

  stop(): void {
    Atomics.store(this.#words, TRACKING, 0);
    for (const watcher of this.#watchers) watcher(false);
  }

  /** Marks the pages of `bytes` bytes at `offset`; what lies behind RAM is ignored. Allocates nothing. */
  mark(offset: number, bytes: number): void {
    const end = Math.min(offset + bytes, this.#ramBytes);
    if (bytes === 0 || offset < 0 || offset >= end) return;
    const last = Math.floor((end - 1) / PAGE_BYTES);
    for (let page = Math.floor(offset / PAGE_BYTES); page <= last; page++) {
      // Not read first, to leave out what is marked: the read might overtake the write that it is for.
      Atomics.or(this.#words, FIRST + Math.floor(page / 32), 1 << (page % 32));
    }
  }

  /** The marked pages as bits, for `runsOfBits`. They are not marked any more. */
  take(): Uint32Array {
    const bits = new Uint32Array(this.#words.length - FIRST);
    for (let i = 0; i < bits.length; i++) {
      if (this.#words[FIRST + i] !== 0) bits[i] = Atomics.exchange(this.#words, FIRST + i, 0);
    }
    return bits;
  }
}
