/**
 * A raw file or block device as the backend of a disk, by io_uring: many requests in flight on one thread.
 *
 * Measured on ext4 on a cloud machine's disk, 4 KiB requests, 16 in flight, against preadv and pwritev: direct reads 82,000 a
 * second against 15,500, direct writes 57,000 against 12,700, reads from the page cache the same; but writes to the
 * page cache only 88,000 against 137,000, because the kernel hands those to a worker of its own.
 */
import type { BlockBackend } from './device.ts';
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { type Uring, URING_FSYNC_DATA_SYNC, URING_OP } from '../../ffi/uring.ts';
import { transferBounced } from './bounce.ts';
import { perform, type FileTraits } from './file-backend.ts';

export interface UringOptions extends FileTraits {
  /** Writes do not go through the ring. */
  readonly writeAtOnce?: boolean;
}

export class UringBackend implements BlockBackend, Disposable {
  readonly #fd: number;
  readonly #ring: Uring;
  readonly #writeAtOnce: boolean;
  readonly #traits: FileTraits;
  /** Requests in flight by their index. */
  readonly #flying: (BlockRequest | undefined)[] = [];
  /** Those that wait for a place in the ring. */
  readonly #waiting: BlockRequest[] = [];
  #inFlight = 0;
  #finish: (request: BlockRequest, errno: number) => void = () => {};
  readonly #take = (index: number, result: number) => this.#landed(index, result);

  /** The ring becomes this backend's. */
  constructor(fd: number, ring: Uring, { writeAtOnce = false, ...traits }: UringOptions = {}) {
    this.#fd = fd;
    this.#ring = ring;
    this.#traits = traits;
    this.#writeAtOnce = writeAtOnce;
  }

  /** Readable while there is something for `collect`. */
  get ringFd(): number {
    return this.#ring.fd;
  }

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }

  start(request: BlockRequest): void {
    // Discards and zeroes are rare, and quick as a rule.
    const now =
      request.op === BLOCK_OP.write
        ? this.#writeAtOnce
        : request.op === BLOCK_OP.discard || request.op === BLOCK_OP.zero;
    if (now) {
      this.#finish(request, perform(this.#fd, request, this.#traits));
    } else if (this.#inFlight < this.#ring.entries) {
      this.#push(request);
    } else {
      this.#waiting.push(request);
    }
  }

  /** What the page cache could answer has ended when this returns. */
  commit(): void {
    this.#ring.submit();
    this.collect();
  }

  /** Ends what has come back, and starts what waited for it. */
  collect(): void {
    do {
      this.#ring.reap(this.#take);
      while (this.#waiting.length > 0 && this.#inFlight < this.#ring.entries)
        this.#push(this.#waiting.shift()!);
      if (this.#ring.unsubmitted === 0) return;
      this.#ring.submit();
    } while (this.#ring.reap(this.#take) > 0);
  }

  drain(): void {
    while (this.#inFlight > 0) {
      this.#ring.submit(1);
      this.collect();
    }
  }

  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
  }

  #push(request: BlockRequest): void {
    this.#flying[request.index] = request;
    this.#inFlight++;
    if (request.op === BLOCK_OP.flush) {
      this.#ring.push(URING_OP.fsync, this.#fd, 0, undefined, 0, 0, URING_FSYNC_DATA_SYNC, request.index);
      return;
    }
    const op = request.op === BLOCK_OP.write ? URING_OP.writeVectors : URING_OP.readVectors;
    const { iovecs, firstIovec, iovecCount } = request;
    this.#ring.push(
      op,
      this.#fd,
      request.offset + request.done,
      iovecs,
      firstIovec,
      iovecCount,
      0,
      request.index,
    );
  }

  #landed(index: number, result: number): void {
    const request = this.#flying[index]!;
    this.#flying[index] = undefined;
    this.#inFlight--;
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#push(request);
    } else if (result === -ERRNO.EINVAL && this.#traits.direct) {
      this.#finish(request, transferBounced(this.#fd, request));
    } else if (result < 0) {
      this.#finish(request, -result);
    } else if (request.op === BLOCK_OP.flush) {
      this.#finish(request, 0);
    } else {
      request.advance(result);
      if (request.done === request.bytes) this.#finish(request, 0);
      // The file is shorter than the disk was when it was opened: somebody cut it.
      else if (result === 0) this.#finish(request, ERRNO.EIO);
      else this.#push(request);
    }
  }
}
