/**
 * The overlay file: a guest's writes on top of a base image that is only read.
 *
 * A header of one block, then a bitmap with one bit for each block of the disk (1: the block is in the
 * overlay), then the blocks: block n of the disk at `dataOffset + n * 4096`. The file is sparse, so blocks
 * that were never written take no space; the format has no allocator and no tables that a crash could tear.
 *
 * Crash safety: a bit is written only after its block's data is durable (docs/disks.md).
 */
import { getU64, putAscii, putU64, viewOf } from '../../binary/bytes.ts';
import { alignUp } from '../../machine/address.ts';

export const OVERLAY_BLOCK_BYTES = 4096;

/** Little-endian; the rest of the first block is zero. */
export const OVERLAY_HEADER = {
  /** "VOLTOVL\n" */
  magic: 0x00,
  version: 0x08,
  blockBytes: 0x0c,
  /** Bytes of the disk and of the base image. */
  diskBytes: 0x10,
  bitmapOffset: 0x18,
  dataOffset: 0x20,
  /** The base image's mtime in milliseconds since 1970: over changed content the overlay would be garbage. */
  baseChangedMs: 0x28,
  size: OVERLAY_BLOCK_BYTES,
} as const;

const MAGIC = 'VOLTOVL\n';
const VERSION = 1;
/** Data starts at a multiple of this, which also aligns it on file systems with large blocks. */
const DATA_ALIGNMENT = 64 * 1024;

export interface OverlayShape {
  readonly diskBytes: number;
  readonly baseChangedMs: number;
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly dataOffset: number;
  readonly fileBytes: number;
}

/** Layout of the overlay for a base image of `diskBytes`. */
export function overlayShape(diskBytes: number, baseChangedMs: number): OverlayShape {
  const blocks = Math.ceil(diskBytes / OVERLAY_BLOCK_BYTES);
  const bitmapBytes = alignUp(Math.ceil(blocks / 8), OVERLAY_BLOCK_BYTES);
  const bitmapOffset = OVERLAY_HEADER.size;
  const dataOffset = alignUp(bitmapOffset + bitmapBytes, DATA_ALIGNMENT);
  const fileBytes = dataOffset + blocks * OVERLAY_BLOCK_BYTES;
  return { diskBytes, baseChangedMs, bitmapOffset, bitmapBytes, dataOffset, fileBytes };
}

export function encodeOverlayHeader(shape: OverlayShape): Uint8Array {
  const bytes = new Uint8Array(OVERLAY_HEADER.size);
  const view = viewOf(bytes);
  putAscii(bytes, OVERLAY_HEADER.magic, MAGIC);
  view.setUint32(OVERLAY_HEADER.version, VERSION, true);
  view.setUint32(OVERLAY_HEADER.blockBytes, OVERLAY_BLOCK_BYTES, true);
  putU64(view, OVERLAY_HEADER.diskBytes, shape.diskBytes);
  putU64(view, OVERLAY_HEADER.bitmapOffset, shape.bitmapOffset);
  putU64(view, OVERLAY_HEADER.dataOffset, shape.dataOffset);
  putU64(view, OVERLAY_HEADER.baseChangedMs, shape.baseChangedMs);
  return bytes;
}

/**
 * Why an overlay file does not fit a base image of this shape, as the end of an error message; undefined: it
 * does.
 */
export function checkOverlay(header: Uint8Array, fileBytes: number, shape: OverlayShape): string | undefined {
  const expected = encodeOverlayHeader(shape);
  const view = viewOf(header);
  const identity = OVERLAY_HEADER.diskBytes;
  if (!startsLike(header, expected, identity))
    return 'it is not a Volt overlay of this version; give the path of one, or a path where no file exists yet';
  const diskBytes = getU64(view, OVERLAY_HEADER.diskBytes);
  if (diskBytes !== shape.diskBytes)
    return `it belongs to a base image of ${diskBytes} bytes (expected ${shape.diskBytes})`;
  if (getU64(view, OVERLAY_HEADER.baseChangedMs) !== shape.baseChangedMs)
    return 'its base image has changed since the overlay was created; use the original base image or a new overlay';
  if (!startsLike(header, expected, header.length) || fileBytes < shape.fileBytes)
    return `it is damaged (expected ${shape.fileBytes} bytes with an intact header)`;
  return undefined;
}

function startsLike(found: Uint8Array, expected: Uint8Array, bytes: number): boolean {
  return expected.subarray(0, bytes).every((byte, i) => found[i] === byte);
}
