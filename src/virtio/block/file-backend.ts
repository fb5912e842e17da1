/** A raw file or block device as the backend of a disk, with blocking calls: one request at a time. */
import type { BlockBackend } from './device.ts';
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { discardBlocks, flushFile, punchHole, transferVectors, zeroRange } from '../../ffi/block-file.ts';
import { transferBounced, writeBouncedZeroes } from './bounce.ts';
import { ERRNO } from '../../ffi/errno.ts';

/** What of its file a backend has to know. */
export interface FileTraits {
  /** It was opened with O_DIRECT. */
  readonly direct?: boolean;
  /** It is a block device. */
  readonly device?: boolean;
}

/** preadv takes this many. */
const UIO_MAXIOV = 1024;

export class FileBackend implements BlockBackend {
  readonly #fd: number;
  readonly #traits: FileTraits;
  #finish: (request: BlockRequest, errno: number) => void = () => {};

  constructor(fd: number, traits: FileTraits = {}) {
    this.#fd = fd;
    this.#traits = traits;
  }

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }

  start(request: BlockRequest): void {
    this.#finish(request, perform(this.#fd, request, this.#traits));
  }

  commit(): void {}

  drain(): void {}
}

/** Does all of the request. Returns 0 or errno, with `request.done` telling how far it came. */
export function perform(fd: number, request: BlockRequest, traits: FileTraits): number {
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

/** A call may do less than it was asked; the rest is asked for again. */
function transferAll(fd: number, request: BlockRequest, direct: boolean): number {
  const write = request.op === BLOCK_OP.write;
  while (request.iovecCount > 0) {
    const count = Math.min(request.iovecCount, UIO_MAXIOV);
    const at = request.offset + request.done;
    const done = transferVectors(write, fd, request.iovecs, request.firstIovec, count, at);
    if (done === -ERRNO.EINVAL && direct) return transferBounced(fd, request);
    if (done < 0) return -done;
    // The file is shorter than the disk was when it was opened: somebody cut it.
    if (done === 0) return ERRNO.EIO;
    request.advance(done);
  }
  return 0;
}

/** A hint: where the host cannot, nothing happens. */
function discard(fd: number, { offset, bytes }: BlockRequest, device: boolean): number {
  // A hole in a block device has to read as zeroes, which not all can promise that take discards.
  const errno = device ? discardBlocks(fd, offset, bytes) : punchHole(fd, offset, bytes);
  return cannot(errno) ? 0 : errno;
}

/** Where the host has no call for it, zeroes are written. */
function writeZeroes(fd: number, { offset, bytes, mayUnmap }: BlockRequest): number {
  const punched = mayUnmap ? punchHole(fd, offset, bytes) : ERRNO.EOPNOTSUPP;
  const errno = cannot(punched) ? zeroRange(fd, offset, bytes) : punched;
  return cannot(errno) ? writeBouncedZeroes(fd, offset, bytes) : errno;
}

function cannot(errno: number): boolean {
  return errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS;
}
