/**
 * The overlay file: what a guest wrote, in front of a base image that nobody writes.
 *
 * A header of one block, then a bitmap with one bit for each block of the disk (1: the block is in the overlay), then
 * the blocks themselves, each at its place: block n of the disk at `dataOffset + n * 4096`. The file is sparse, so
 * blocks that were never written take no room; the format needs no allocation and no tables that could be torn.
 *
 * Crash safety: a bit is written only after the data of its block is safe. docs/disks.md has the details.
 */
import { getU64, putAscii, putU64, viewOf } from '../../binary/bytes.ts';
import { alignUp } from '../../machine/address.ts';

export const OVERLAY_BLOCK_BYTES = 4096;

/** All numbers little-endian; the rest of the first block is zero. */
export const OVERLAY_HEADER = {
  /** "VOLTOVL\n" */
  magic: 0x00,
  version: 0x08,
  blockBytes: 0x0c,
  /** Bytes of the disk, which are those of the base image. */
  diskBytes: 0x10,
  bitmapOffset: 0x18,
  dataOffset: 0x20,
  /** Time of the base image's last change, in milliseconds since 1970: an overlay over another content is garbage. */
  baseChangedMs: 0x28,
  size: OVERLAY_BLOCK_BYTES,
} as const;

const MAGIC = 'VOLTOVL\n';
const VERSION = 1;
/** Data begins at a multiple of this, which suits file systems with large blocks. */
const DATA_ALIGNMENT = 64 * 1024;

export interface OverlayShape {
  readonly diskBytes: number;
  readonly baseChangedMs: number;
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly dataOffset: number;
  readonly fileBytes: number;
}

/** Where everything is in the overlay of a base image of `diskBytes`. */
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

/** What is wrong with an overlay file for a base of this shape, as "found (expected …)"; undefined: nothing. */
export function checkOverlay(header: Uint8Array, fileBytes: number, shape: OverlayShape): string | undefined {
  const expected = encodeOverlayHeader(shape);
  const view = viewOf(header);
  const identity = OVERLAY_HEADER.diskBytes;
  if (!startsLike(header, expected, identity))
    return 'it is no overlay of this version (expected one that Volt made, or a path where there is no file yet)';
  const diskBytes = getU64(view, OVERLAY_HEADER.diskBytes);
  if (diskBytes !== shape.diskBytes)
    return `it belongs to a base image of ${diskBytes} bytes (expected ${shape.diskBytes})`;
  if (getU64(view, OVERLAY_HEADER.baseChangedMs) !== shape.baseChangedMs)
    return 'its base image was changed since it was made (expected the same content; the overlay is of no use with another)';
  if (!startsLike(header, expected, header.length) || fileBytes < shape.fileBytes)
    return `it is damaged (expected ${shape.fileBytes} bytes with an intact header)`;
  return undefined;
}

function startsLike(found: Uint8Array, expected: Uint8Array, bytes: number): boolean {
  return expected.subarray(0, bytes).every((byte, i) => found[i] === byte);
}
