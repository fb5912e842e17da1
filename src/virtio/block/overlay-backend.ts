/**
 * A disk made of a base image, which is only read, and an overlay, which receives the guest's writes.
 *
 * Durability: bitmap bits change in memory at once, but in the file only in `save`, between two flushes: data
 * first, then bits, so that no bit refers to data that a crash has lost. Writes that the guest has not
 * flushed may be lost, as with any write-back cache.
 */
import type { BlockBackend } from './device.ts';
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { flushFile, punchHole, transfer, transferVectors, writeAllAt } from '../../ffi/block-file.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { readAt } from '../../ffi/file.ts';
import { OVERLAY_BLOCK_BYTES, type OverlayShape } from './overlay-format.ts';

const BLOCK = OVERLAY_BLOCK_BYTES;

export interface OverlayFiles {
  readonly baseFd: number;
  readonly overlayFd: number;
  readonly shape: OverlayShape;
  /** A write is durable before it completes. */
  readonly writeThrough: boolean;
}

export class OverlayBackend implements BlockBackend {
  readonly #files: OverlayFiles;
  readonly #bitmap: Uint8Array;
  /** Bitmap blocks that differ from the file. */
  readonly #dirty = new Set<number>();
  readonly #scratch = new Uint8Array(BLOCK);
  #complete: (request: BlockRequest, errno: number) => void = () => {};

  /** Reads the bitmap. Throws SyscallError. */
  constructor(files: OverlayFiles) {
    this.#files = files;
    const { bitmapBytes, bitmapOffset } = files.shape;
    this.#bitmap = new Uint8Array(bitmapBytes);
    readAt(files.overlayFd, this.#bitmap, bitmapOffset);
  }

  connect(complete: (request: BlockRequest, errno: number) => void): void {
    this.#complete = complete;
  }

  start(request: BlockRequest): void {
    let errno = this.#perform(request);
    const changes = request.op !== BLOCK_OP.read && request.op !== BLOCK_OP.flush;
    if (errno === 0 && changes && this.#files.writeThrough) errno = this.save();
    this.#complete(request, errno);
  }

  commit(): void {}

  /** On a reset or at the machine's end everything is saved, so the next user of the overlay finds it. */
  drain(): void {
    this.save();
  }

  flush(): number {
    return this.save();
  }

  /** Makes all writes so far durable. Returns 0 or errno. */
  save(): number {
    const { overlayFd, shape } = this.#files;
    const failed = flushFile(overlayFd);
    if (failed || this.#dirty.size === 0) return failed;
    for (const page of this.#dirty) {
      const bits = this.#bitmap.subarray(page * BLOCK, (page + 1) * BLOCK);
      const errno = writeAllAt(overlayFd, bits, shape.bitmapOffset + page * BLOCK);
      if (errno) return errno;
    }
    const errno = flushFile(overlayFd);
    if (errno === 0) this.#dirty.clear();
    return errno;
  }

  #perform(request: BlockRequest): number {
    switch (request.op) {
      case BLOCK_OP.read:
        return this.#read(request);
      case BLOCK_OP.write:
        return this.#write(request);
      case BLOCK_OP.flush:
        return this.save();
      case BLOCK_OP.discard:
        return this.#clear(request.offset, request.bytes, false);
      case BLOCK_OP.zero:
        return this.#clear(request.offset, request.bytes, true);
    }
  }

  /** Reads each run of blocks that lie in the same file with one transfer. */
  #read(request: BlockRequest): number {
    const { baseFd, overlayFd, shape } = this.#files;
    const end = request.offset + request.bytes;
    for (let at = request.offset; at < end;) {
      const present = this.#has(Math.floor(at / BLOCK));
      let stop = (Math.floor(at / BLOCK) + 1) * BLOCK;
      while (stop < end && this.#has(stop / BLOCK) === present) stop += BLOCK;
      const bytes = Math.min(stop, end) - at;
      const errno = transferPart(
        present ? overlayFd : baseFd,
        request,
        present ? shape.dataOffset + at : at,
        bytes,
      );
      if (errno) return errno;
      at += bytes;
    }
    return 0;
  }

  /** Whole blocks go straight to the overlay; a partly written block is copied from the base first. */
  #write(request: BlockRequest): number {
    const { overlayFd, shape } = this.#files;
    const { offset, bytes } = request;
    const end = offset + bytes;
    const errno =
      this.#copyUp(offset) ||
      this.#copyUp(end) ||
      transferPart(overlayFd, request, shape.dataOffset + offset, bytes);
    // After an error, blocks that were written only in part keep the base's content.
    const done = errno === 0 ? bytes : request.done;
    for (let block = Math.floor(offset / BLOCK); block * BLOCK < offset + done; block++) {
      const written = Math.min((block + 1) * BLOCK, shape.diskBytes) <= offset + done;
      if (written || errno === 0) this.#add(block);
    }
    return errno;
  }

  /**
   * Copies the block around `edge` from the base into the overlay, unless it is there or `edge` is aligned.
   */
  #copyUp(edge: number): number {
    const { baseFd, overlayFd, shape } = this.#files;
    const block = Math.floor(edge / BLOCK);
    if (edge % BLOCK === 0 || edge >= shape.diskBytes || this.#has(block)) return 0;
    this.#scratch.fill(0);
    const piece = this.#scratch.subarray(0, Math.min(BLOCK, shape.diskBytes - block * BLOCK));
    if (readAt(baseFd, piece, block * BLOCK) < piece.length) return ERRNO.EIO;
    const errno = writeAllAt(overlayFd, this.#scratch, shape.dataOffset + block * BLOCK);
    if (errno === 0) this.#add(block);
    return errno;
  }

  /**
   * Whole blocks become holes in the overlay, which read as zeroes and hide the base. Partial blocks at
   * either end are zeroed when `exact` (write-zeroes), and left alone otherwise (discard).
   */
  #clear(offset: number, bytes: number, exact: boolean): number {
    const { overlayFd, shape } = this.#files;
    const end = offset + bytes;
    const first = Math.ceil(offset / BLOCK);
    const last = end === shape.diskBytes ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK);
    if (exact) {
      const head = Math.min(first * BLOCK, end);
      const tail = Math.max(last * BLOCK, head);
      const errno = this.#writeZeroes(offset, head) || this.#writeZeroes(tail, end);
      if (errno) return errno;
    }
    if (last <= first) return 0;
    const at = shape.dataOffset + first * BLOCK;
    const errno = punchHole(overlayFd, at, (last - first) * BLOCK);
    const unsupported = errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENOSYS;
    if (unsupported && !exact) return 0;
    for (let block = first; unsupported && block < last; block++) {
      const failed = writeAllAt(overlayFd, this.#scratch.fill(0), shape.dataOffset + block * BLOCK);
      if (failed) return failed;
    }
    if (errno && !unsupported) return errno;
    for (let block = first; block < last; block++) this.#add(block);
    return 0;
  }

  /** Zeroes a range inside one block. */
  #writeZeroes(from: number, to: number): number {
    if (from >= to) return 0;
    const { overlayFd, shape } = this.#files;
    const errno = this.#copyUp(from) || this.#copyUp(to);
    if (errno) return errno;
    return writeAllAt(overlayFd, this.#scratch.fill(0).subarray(0, to - from), shape.dataOffset + from);
  }

  #has(block: number): boolean {
    return ((this.#bitmap[Math.floor(block / 8)]! >>> (block % 8)) & 1) !== 0;
  }

  #add(block: number): void {
    const byte = Math.floor(block / 8);
    const before = this.#bitmap[byte]!;
    const bit = 1 << (block % 8);
    if (before & bit) return;
    this.#bitmap[byte] = before | bit;
    this.#dirty.add(Math.floor(byte / BLOCK));
  }
}

/** Transfers the request's next `bytes` bytes from or to `fileOffset` of one file. Returns 0 or errno. */
function transferPart(fd: number, request: BlockRequest, fileOffset: number, bytes: number): number {
  const write = request.op === BLOCK_OP.write;
  for (let left = bytes; left > 0;) {
    let covered = 0;
    let count = 0;
    while (count < request.iovecCount && covered + request.iovecLength(count) <= left)
      covered += request.iovecLength(count++);
    const at = fileOffset + (bytes - left);
    const done =
      count > 0
        ? transferVectors(write, fd, request.iovecs, request.firstIovec, count, at)
        : transfer(write, fd, request.iovecAddress(0), left, at);
    if (done < 0) return -done;
    if (done === 0) return ERRNO.EIO;
    request.advance(done);
    left -= done;
  }
  return 0;
}
