/**
 * A raw file or block device as the backend of a disk, by io_uring: many requests in flight on one thread.
 *
 * Measured on ext4 on a cloud machine's disk with 4 KiB requests, 16 in flight, against preadv and pwritev:
 * 82,000 direct reads a second against 15,500, 57,000 direct writes against 12,700, reads from the page cache
 * the same; but only 88,000 writes to the page cache against 137,000, because the kernel hands those to a
 * worker of its own.
 */
import type { BlockBackend } from './device.ts';
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { flushFile } from '../../ffi/block-file.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { type Uring, URING_FSYNC_DATA_SYNC, URING_OP } from '../../ffi/uring.ts';
import { transferBounced } from './bounce.ts';
import { performRequest, type FileTraits } from './file-backend.ts';

export interface UringOptions extends FileTraits {
  /** Writes are blocking calls and bypass the ring. */
  readonly writesBlock?: boolean;
}

export class UringBackend implements BlockBackend, Disposable {
  readonly #fd: number;
  readonly #ring: Uring;
  readonly #writesBlock: boolean;
  readonly #traits: FileTraits;
  /** Requests in flight, by their index. */
  readonly #inFlight: (BlockRequest | undefined)[] = [];
  /** Requests that wait for a free ring entry. */
  readonly #backlog: BlockRequest[] = [];
  #inFlightCount = 0;
  #complete: (request: BlockRequest, errno: number) => void = () => {};
  readonly #onCompletion = (index: number, result: number) => this.#handleCompletion(index, result);

  /** Takes ownership of the ring. */
  constructor(fd: number, ring: Uring, { writesBlock = false, ...traits }: UringOptions = {}) {
    this.#fd = fd;
    this.#ring = ring;
    this.#traits = traits;
    this.#writesBlock = writesBlock;
  }

  /** Readable while `collect` has completions to reap. */
  get ringFd(): number {
    return this.#ring.fd;
  }

  connect(complete: (request: BlockRequest, errno: number) => void): void {
    this.#complete = complete;
  }

  start(request: BlockRequest): void {
    // Discards and write-zeroes are rare and usually quick.
    const isBlocking =
      request.op === BLOCK_OP.write
        ? this.#writesBlock
        : request.op === BLOCK_OP.discard || request.op === BLOCK_OP.zero;
    if (isBlocking) {
      this.#complete(request, performRequest(this.#fd, request, this.#traits));
    } else if (this.#inFlightCount < this.#ring.entries) {
      this.#push(request);
    } else {
      this.#backlog.push(request);
    }
  }

  /** Requests that the page cache could serve are complete when this returns. */
  commit(): void {
    this.#ring.submit();
    this.collect();
  }

  /** Reaps completions, and pushes requests from the backlog into the entries that they freed. */
  collect(): void {
    do {
      this.#ring.reap(this.#onCompletion);
      while (this.#backlog.length > 0 && this.#inFlightCount < this.#ring.entries)
        this.#push(this.#backlog.shift()!);
      if (this.#ring.unsubmitted === 0) return;
      this.#ring.submit();
    } while (this.#ring.reap(this.#onCompletion) > 0);
  }

  drain(): void {
    while (this.#inFlightCount > 0) {
      this.#ring.submit(1);
      this.collect();
    }
  }

  flush(): number {
    return flushFile(this.#fd);
  }

  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
  }

  #push(request: BlockRequest): void {
    this.#inFlight[request.index] = request;
    this.#inFlightCount++;
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

  #handleCompletion(index: number, result: number): void {
    const request = this.#inFlight[index]!;
    this.#inFlight[index] = undefined;
    this.#inFlightCount--;
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) {
      this.#push(request);
    } else if (result === -ERRNO.EINVAL && this.#traits.direct) {
      this.#complete(request, transferBounced(this.#fd, request));
    } else if (result < 0) {
      this.#complete(request, -result);
    } else if (request.op === BLOCK_OP.flush) {
      this.#complete(request, 0);
    } else {
      request.advance(result);
      if (request.done === request.bytes) this.#complete(request, 0);
      // End of file: the file was truncated after it was opened.
      else if (result === 0) this.#complete(request, ERRNO.EIO);
      else this.#push(request);
    }
  }
}
