/** A raw file or block device as the backend of a disk, by blocking system calls: one request at a time. */
import type { BlockBackend } from './device.ts';
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { discardBlocks, flushFile, punchHole, transferVectors, zeroRange } from '../../ffi/block-file.ts';
import { transferBounced, writeBouncedZeroes } from './bounce.ts';
import { ERRNO } from '../../ffi/errno.ts';

/** Properties of the open file that decide which calls a backend may use. */
export interface FileTraits {
  /** Opened with O_DIRECT. */
  readonly direct?: boolean;
  /** A block device rather than a regular file. */
  readonly device?: boolean;
}

/** Most iovecs that preadv(2) and pwritev(2) accept. */
const UIO_MAXIOV = 1024;

export class FileBackend implements BlockBackend {
  readonly #fd: number;
  readonly #traits: FileTraits;
  #complete: (request: BlockRequest, errno: number) => void = () => {};

  constructor(fd: number, traits: FileTraits = {}) {
    this.#fd = fd;
    this.#traits = traits;
  }

  connect(complete: (request: BlockRequest, errno: number) => void): void {
    this.#complete = complete;
  }

  start(request: BlockRequest): void {
    this.#complete(request, performRequest(this.#fd, request, this.#traits));
  }

  commit(): void {}

  drain(): void {}

  flush(): number {
    return flushFile(this.#fd);
  }
}

/** Performs the whole request. Returns 0 or errno; after an error `request.done` bytes were transferred. */
export function performRequest(fd: number, request: BlockRequest, traits: FileTraits): number {
  switch (request.op) {
    case BLOCK_OP.read:
    case BLOCK_OP.write:
      return transferAll(fd, request, traits.direct ?? false);
    case BLOCK_OP.flush:
      return flushFile(fd);
    case BLOCK_OP.discard:
      return discard(fd, request, traits.device ?? false);
    case BLOCK_OP.zero:
      return writeZeroes(fd, request);
  }
}

/** A call may transfer less than it was asked for; the rest is requested again. */
function transferAll(fd: number, request: BlockRequest, direct: boolean): number {
  const write = request.op === BLOCK_OP.write;
  while (request.iovecCount > 0) {
    const count = Math.min(request.iovecCount, UIO_MAXIOV);
    const at = request.offset + request.done;
    const done = transferVectors(write, fd, request.iovecs, request.firstIovec, count, at);
    if (done === -ERRNO.EINVAL && direct) return transferBounced(fd, request);
    if (done < 0) return -done;
    // End of file: it was truncated after it was opened.
    if (done === 0) return ERRNO.EIO;
    request.advance(done);
  }
  return 0;
}

/** A discard is a hint: it succeeds without effect where the host cannot do it. */
function discard(fd: number, { offset, bytes }: BlockRequest, device: boolean): number {
  // Punching a hole in a block device requires that it reads as zeroes, which not every device that discards
  // ensures.
  const errno = device ? discardBlocks(fd, offset, bytes) : punchHole(fd, offset, bytes);
  return isUnsupported(errno) ? 0 : errno;
}

/** Writes zeroes where the host can neither punch a hole nor zero the range. */
function writeZeroes(fd: number, { offset, bytes, mayUnmap }: BlockRequest): number {
  const punched = mayUnmap ? punchHole(fd, offset, bytes) : ERRNO.EOPNOTSUPP;
  const errno = isUnsupported(punched) ? zeroRange(fd, offset, bytes) : punched;
  return isUnsupported(errno) ? writeBouncedZeroes(fd, offset, bytes) : errno;
}

function isUnsupported(errno: number): boolean {
  return errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS;
}
