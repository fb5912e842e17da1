/** A guest that counts its starts on its disk. */
import { DATA, virtioAsm, virtioImage } from './virtio-guest.ts';
import { BLOCK_REQUEST_TYPE, BlockRequests, SECTOR } from './sandboxed-disk-guest.ts';
import { asm, u32 } from './tiny-guest.ts';

const HEADER_BYTES = 16;

/** Adds one to the first byte of its disk, makes that durable, prints the byte and a line end, and halts. */
export function keepingGuest(): Uint8Array {
  const requests = new BlockRequests();
  const counter = DATA + HEADER_BYTES;
  requests.add(BLOCK_REQUEST_TYPE.read, 0, SECTOR);
  requests.add(BLOCK_REQUEST_TYPE.write, 0, SECTOR, counter);
  requests.add(BLOCK_REQUEST_TYPE.flush, 0, 0);
  const { start, offer, waitUsed } = virtioAsm;
  const code = [
    [...start(), ...offer(1), ...waitUsed(1)],
    [0xfe, 0x05, ...u32(counter)], // inc byte [counter]
    [...offer(2), ...waitUsed(2), ...offer(3), ...waitUsed(3)],
    [...asm.print('start '), ...asm.printMemory(counter, 1), ...asm.print('\n'), ...asm.halt()],
  ];
  return virtioImage(code, requests.chains, requests.data);
}
