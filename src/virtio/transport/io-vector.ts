/** An array of `struct iovec { void *iov_base; size_t iov_len; }` for readv(2) and writev(2). */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import type { Chain } from './queue.ts';

const WORDS = 4;

/** Most elements of one readv or writev (UIO_MAXIOV). */
export const MAX_PIECES = 1024;

/** Created once and reused. The `count` valid elements start at element `first` of `words`. */
export class IoVector {
  /** Four words per element: address and length, low halves first. */
  readonly words: Uint32Array;
  readonly capacity: number;
  first = 0;
  count = 0;
  /** Total length of all elements. */
  bytes = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.words = new Uint32Array(capacity * WORDS);
  }

  clear(): void {
    this.first = 0;
    this.count = 0;
    this.bytes = 0;
  }

  /** Appends an element. Returns false if the vector is full. */
  add(host: number, bytes: number): boolean {
    if (this.first + this.count === this.capacity) {
      if (this.first === 0) return false;
      this.words.copyWithin(0, this.first * WORDS, (this.first + this.count) * WORDS);
      this.first = 0;
    }
    const at = (this.first + this.count) * WORDS;
    this.words[at] = host % TWO_POW_32;
    this.words[at + 1] = Math.floor(host / TWO_POW_32);
    this.words[at + 2] = bytes;
    this.words[at + 3] = 0;
    this.count++;
    this.bytes += bytes;
    return true;
  }

  /** Appends the buffers `from` to `to` (exclusive) of a chain without their first `skip` bytes. */
  addBuffers(chain: Chain, from: number, to: number, skip = 0): boolean {
    for (let i = from; i < to; i++) {
      const length = chain.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      if (!this.add(chain.host[i]! + skip, length - skip)) return false;
      skip = 0;
    }
    return true;
  }

  /** Shortens the vector to `bytes` bytes. */
  truncate(bytes: number): void {
    let [left, count] = [bytes, 0];
    for (; count < this.count && left > 0; count++) {
      const length = this.lengthOf(count);
      if (length > left) this.words[(this.first + count) * WORDS + 2] = left;
      left -= Math.min(left, length);
    }
    this.count = count;
    this.bytes = bytes - left;
  }

  /** Host address of element `index`, counted from `first`. */
  hostOf(index: number): number {
    const at = (this.first + index) * WORDS;
    return this.words[at]! + this.words[at + 1]! * TWO_POW_32;
  }

  lengthOf(index: number): number {
    return this.words[(this.first + index) * WORDS + 2]!;
  }

  /** Removes the first `count` elements. */
  drop(count: number): void {
    for (let i = 0; i < count; i++) this.bytes -= this.lengthOf(i);
    this.first += count;
    this.count -= count;
    if (this.count === 0) this.first = 0;
  }
}
