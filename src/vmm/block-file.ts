/** A raw file or block device as the backend of a disk, with blocking calls: one request at a time. */
import type { BlockBackend } from '../devices/virtio/block.ts';
import { BLOCK_OP, type BlockRequest } from '../devices/virtio/block-request.ts';
import { flushFile, punchHole, transferVectors, writeAllAt, zeroRange } from '../ffi/block-file.ts';
import { transferBounced } from './block-bounce.ts';
import { ERRNO } from '../ffi/errno.ts';

/** preadv takes this many. */
const UIO_MAXIOV = 1024;
const ZEROES_BYTES = 64 * 1024;

export class FileBackend implements BlockBackend {
  readonly #fd: number;
  readonly #direct: boolean;
  #finish: (request: BlockRequest, errno: number) => void = () => {};

  /** `direct`: the file was opened with O_DIRECT. */
  constructor(fd: number, direct = false) {
    this.#fd = fd;
    this.#direct = direct;
  }

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }

  start(request: BlockRequest): void {
    this.#finish(request, perform(this.#fd, request, this.#direct));
  }

  commit(): void {}

  drain(): void {}
}

/** Does all of the request. Returns 0 or errno, with `request.done` telling how far it came. */
export function perform(fd: number, request: BlockRequest, direct = false): number {
  switch (request.op) {
    case BLOCK_OP.read:
    case BLOCK_OP.write:
      return transferAll(fd, request, direct);
    case BLOCK_OP.flush:
      return flushFile(fd);
    case BLOCK_OP.discard:
      return discard(fd, request.offset, request.bytes);
    case BLOCK_OP.zero:
      return writeZeroes(fd, request.offset, request.bytes, request.mayUnmap);
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
export function discard(fd: number, offset: number, bytes: number): number {
  const errno = punchHole(fd, offset, bytes);
  return errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS ? 0 : errno;
}

/** Where the host has no call for it, zeroes are written. */
export function writeZeroes(fd: number, offset: number, bytes: number, mayUnmap: boolean): number {
  const errno = mayUnmap ? punchHole(fd, offset, bytes) : zeroRange(fd, offset, bytes);
  if (errno !== ERRNO.EOPNOTSUPP && errno !== ERRNO.ENOSYS) return errno;
  const zeroes = new Uint8Array(Math.min(bytes, ZEROES_BYTES));
  for (let done = 0; done < bytes; done += zeroes.length) {
    const failed = writeAllAt(fd, zeroes.subarray(0, Math.min(zeroes.length, bytes - done)), offset + done);
    if (failed) return failed;
  }
  return 0;
}
