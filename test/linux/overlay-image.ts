/** What a guest sees through an overlay, as a plain image. */
import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { OVERLAY_BLOCK_BYTES, overlayShape } from '../../src/virtio/block/overlay-format.ts';

/** Base and overlay as one image at `whole`; both stay as they are. */
export function materializeOverlay(base: string, overlay: string, whole: string): void {
  Bun.spawnSync(['cp', '--sparse=always', base, whole]);
  const diskBytes = statSync(base).size;
  const { bitmapOffset, dataOffset } = overlayShape(diskBytes, 0);
  const blocks = Math.ceil(diskBytes / OVERLAY_BLOCK_BYTES);
  const [from, to] = [openSync(overlay, 'r'), openSync(whole, 'r+')];
  const bitmap = Buffer.alloc(Math.ceil(blocks / 8));
  readSync(from, bitmap, 0, bitmap.length, bitmapOffset);
  const bytes = Buffer.alloc(OVERLAY_BLOCK_BYTES);
  for (let block = 0; block < blocks; block++) {
    if (!((bitmap[block >> 3]! >> (block & 7)) & 1)) continue;
    const at = block * OVERLAY_BLOCK_BYTES;
    const length = readSync(from, bytes, 0, Math.min(bytes.length, diskBytes - at), dataOffset + at);
    writeSync(to, bytes, 0, length, at);
  }
  closeSync(from);
  closeSync(to);
}

/** The same for small images, in memory. */
export function readThroughOverlay(base: string, overlay: string): Buffer {
  materializeOverlay(base, overlay, `${base}.whole`);
  return readFileSync(`${base}.whole`);
}
