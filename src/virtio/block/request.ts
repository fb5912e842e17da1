/** One block request on its way: what the guest asked for, and where its data lies in this process. */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import type { Chain } from '../transport/queue.ts';

/** What a backend is asked to do. `zero` leaves the range reading as zeroes; `discard` may leave anything. */
export const BLOCK_OP = { read: 0, write: 1, flush: 2, discard: 3, zero: 4 } as const;
export type BlockOp = (typeof BLOCK_OP)[keyof typeof BLOCK_OP];

/** `struct iovec { void *iov_base; size_t iov_len; }` as 32-bit words. */
const IOVEC_WORDS = 4;
const INITIAL_IOVECS = 128;

export class BlockRequest {
  /** Number of this object in its pool. */
  readonly index: number;
  op: BlockOp = BLOCK_OP.flush;
  /** Where on the disk, in bytes. */
  offset = 0;
  /** How much, in bytes; of a read or write as much as the iovecs hold. */
  bytes = 0;
  /** `zero`: the range may be given back to the host. */
  mayUnmap = false;
  /** Bytes done so far, from the start. */
  done = 0;
  /** iovecs of what is not done yet: `iovecCount` of them from `firstIovec` on. */
  iovecs = new Uint32Array(INITIAL_IOVECS * IOVEC_WORDS);
  firstIovec = 0;
  iovecCount = 0;

  /** For the device: which chain this is, and where its status goes. */
  queue = 0;
  chainId = 0;
  statusAddress = 0;
  /** Ranges of a discard or write-zeroes that are still to come, as [offset, bytes, mayUnmap]. */
  readonly ranges: [number, number, boolean][] = [];
  type = 0;

  constructor(index: number) {
    this.index = index;
  }

  /** Takes `bytes` bytes of buffers of the chain, from buffer `first` on, after the first `skip` bytes of them. */
  takeBuffers(chain: Chain, first: number, last: number, skip: number, bytes: number): void {
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

  /** Host address and length of one of the iovecs that are left. */
  iovecAddress(i: number): number {
    const at = (this.firstIovec + i) * IOVEC_WORDS;
    return this.iovecs[at]! + this.iovecs[at + 1]! * TWO_POW_32;
  }

  iovecLength(i: number): number {
    const at = (this.firstIovec + i) * IOVEC_WORDS;
    return this.iovecs[at + 2]! + this.iovecs[at + 3]! * TWO_POW_32;
  }

  /** `bytes` more are done: the iovecs begin behind them. */
  advance(bytes: number): void {
    this.done += bytes;
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

  #put(index: number, host: number, bytes: number): void {
    const at = index * IOVEC_WORDS;
    this.iovecs[at] = host % TWO_POW_32;
    this.iovecs[at + 1] = Math.floor(host / TWO_POW_32);
    this.iovecs[at + 2] = bytes % TWO_POW_32;
    this.iovecs[at + 3] = Math.floor(bytes / TWO_POW_32);
  }
}
