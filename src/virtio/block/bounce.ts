/**
 * A bounce buffer for direct I/O (O_DIRECT): it is aligned where the driver's buffers are not (Linux's are,
 * those of small kernels need not be), and it holds the zeroes of a write-zeroes request.
 */
import { BLOCK_OP, type BlockRequest } from './request.ts';
import { transfer } from '../../ffi/block-file.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { arrayBufferAt, type HostPointer } from '../../ffi/libc.ts';
import { MAP, Mapping, PROT } from '../../ffi/mapping.ts';

/** A multiple of every logical block size. */
const BOUNCE_BYTES = 256 * 1024;

let bounce: { readonly mapping: Mapping; readonly bytes: Uint8Array } | undefined;

/** Completes a read or write from `request.done` on, through the bounce buffer. Returns 0 or errno. */
export function transferBounced(fd: number, request: BlockRequest): number {
  const { mapping, bytes } = (bounce ??= mapBounce());
  const write = request.op === BLOCK_OP.write;
  while (request.done < request.bytes) {
    const piece = Math.min(BOUNCE_BYTES, request.bytes - request.done);
    if (write) copyBuffers(request, bytes, piece, true);
    const done = transfer(write, fd, mapping.address, piece, request.offset + request.done);
    if (done < 0) return -done;
    // After part of a sector the rest of the request would stay misaligned.
    if (done < piece) return ERRNO.EIO;
    if (!write) copyBuffers(request, bytes, piece, false);
    request.advance(piece);
  }
  return 0;
}

/** Writes zeroes from the bounce buffer, so that it works with O_DIRECT too. Returns 0 or errno. */
export function writeBouncedZeroes(fd: number, offset: number, bytes: number): number {
  const { mapping, bytes: buffer } = (bounce ??= mapBounce());
  buffer.fill(0);
  for (let done = 0; done < bytes;) {
    const piece = Math.min(BOUNCE_BYTES, bytes - done);
    const written = transfer(true, fd, mapping.address, piece, offset + done);
    if (written < 0) return -written;
    if (written < piece) return ERRNO.EIO;
    done += piece;
  }
  return 0;
}

/** Unmaps the buffer; the next use maps a new one. */
export function releaseBounce(): void {
  bounce?.mapping[Symbol.dispose]();
  bounce = undefined;
}

function mapBounce() {
  const mapping = new Mapping({
    bytes: BOUNCE_BYTES,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'a buffer for direct I/O',
  });
  return { mapping, bytes: new Uint8Array(mapping.view(0, BOUNCE_BYTES)) };
}

/** Copies `bytes` bytes between the request's remaining buffers and `other`; `out`: from the guest. */
function copyBuffers(request: BlockRequest, other: Uint8Array, bytes: number, out: boolean): void {
  let at = 0;
  for (let i = 0; at < bytes; i++) {
    const length = Math.min(request.iovecLength(i), bytes - at);
    // SAFETY: the queue has checked that the buffer lies in guest RAM, which stays mapped while requests are
    // in flight.
    const guest = new Uint8Array(arrayBufferAt(request.iovecAddress(i) as HostPointer, length));
    if (out) other.set(guest, at);
    else guest.set(other.subarray(at, at + length));
    at += length;
  }
}
