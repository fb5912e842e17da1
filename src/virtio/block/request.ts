/** A block request in flight: the operation, and the host addresses of its data buffers. */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import type { GuestRam } from '../transport/guest-ram.ts';
import type { Chain } from '../transport/queue.ts';

/**
 * Operations of a backend. After `zero` the range reads as zeroes; after `discard` its content is undefined.
 */
export const BLOCK_OP = { read: 0, write: 1, flush: 2, discard: 3, zero: 4 } as const;
export type BlockOp = (typeof BLOCK_OP)[keyof typeof BLOCK_OP];

/** `struct iovec { void *iov_base; size_t iov_len; }` as 32-bit words. */
const IOVEC_WORDS = 4;
const INITIAL_IOVECS = 128;

export class BlockRequest {
  /** Index of this object in its pool. */
  readonly index: number;
  op: BlockOp = BLOCK_OP.flush;
  /** Byte offset on the disk. */
  offset = 0;
  /** Length in bytes; of a read or write the sum of its iovecs. */
  bytes = 0;
  /** Of `zero`: the range may be deallocated on the host. */
  mayUnmap = false;
  /** Bytes transferred so far, from the start. */
  done = 0;
  /** iovecs of the bytes still to transfer: `iovecCount` of them from `firstIovec` on. */
  iovecs = new Uint32Array(INITIAL_IOVECS * IOVEC_WORDS);
  firstIovec = 0;
  iovecCount = 0;

  /** Where the pages that a read fills are marked. */
  ram: GuestRam | undefined;
  /** For the device: the chain, and the guest address of its status byte. */
  queue = 0;
  chainId = 0;
  statusAddress = 0;
  /** Remaining ranges of a discard or write-zeroes, as [offset, bytes, mayUnmap]. */
  readonly ranges: [number, number, boolean][] = [];
  /** One of BLOCK_REQUEST, or what the driver wrote instead. */
  type = 0;

  constructor(index: number) {
    this.index = index;
  }

  /**
   * Sets the iovecs to `bytes` bytes of the chain's buffers `first` to `last - 1`, after the first `skip`
   * bytes.
   */
  setBuffers(chain: Chain, first: number, last: number, skip: number, bytes: number): void {
    if ((last - first) * IOVEC_WORDS > this.iovecs.length)
      this.iovecs = new Uint32Array((last - first) * IOVEC_WORDS);
    this.firstIovec = 0;
    let count = 0;
    for (let i = first; i < last && bytes > 0; i++) {
      const length = chain.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const piece = Math.min(length - skip, bytes);
      this.#put(count++, chain.host[i]! + skip, piece);
      bytes -= piece;
      skip = 0;
    }
    this.iovecCount = count;
  }

  /** Host address of remaining iovec `i`. */
  iovecAddress(i: number): number {
    const at = (this.firstIovec + i) * IOVEC_WORDS;
    return this.iovecs[at]! + this.iovecs[at + 1]! * TWO_POW_32;
  }

  /** Bytes of remaining iovec `i`. */
  iovecLength(i: number): number {
    const at = (this.firstIovec + i) * IOVEC_WORDS;
    return this.iovecs[at + 2]! + this.iovecs[at + 3]! * TWO_POW_32;
  }

  /** Records `bytes` more as transferred, and drops them from the iovecs. */
  advance(bytes: number): void {
    this.done += bytes;
    this.markFilled(bytes);
    while (bytes > 0 && this.iovecCount > 0) {
      const length = this.iovecLength(0);
      if (bytes < length) {
        this.#put(this.firstIovec, this.iovecAddress(0) + bytes, length - bytes);
        return;
      }
      bytes -= length;
      this.firstIovec++;
      this.iovecCount--;
    }
  }

  /** Call after up to `bytes` bytes of the remaining buffers of a read may have been filled. */
  markFilled(bytes: number): void {
    if (this.op !== BLOCK_OP.read || !this.ram?.isTracking) return;
    for (let i = 0; i < this.iovecCount && bytes > 0; i++) {
      const length = Math.min(bytes, this.iovecLength(i));
      this.ram.markHostWritten(this.iovecAddress(i), length);
      bytes -= length;
    }
  }

  #put(index: number, host: number, bytes: number): void {
    const at = index * IOVEC_WORDS;
    this.iovecs[at] = host % TWO_POW_32;
    this.iovecs[at + 1] = Math.floor(host / TWO_POW_32);
    this.iovecs[at + 2] = bytes % TWO_POW_32;
    this.iovecs[at + 3] = Math.floor(bytes / TWO_POW_32);
  }
}
