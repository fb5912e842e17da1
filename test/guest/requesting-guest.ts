/** A guest that makes one block request after another and prints how they ended. */
import { BLOCK_CONFIG } from '../../src/virtio/block/regs.ts';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { BlockRequests, BLOCK_REQUEST_TYPE as TYPE, SECTOR } from './sandboxed-disk-guest.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { DATA, virtioAsm, virtioImage } from './virtio-guest.ts';

const BLOCK = 4096;
const DISCARD_AND_ZERO = (1 << 13) | (1 << 14);

/**
 * Prints the size in sectors and the block size, then the statuses of requests made of `rows`: a type, a sector, and how
 * many bytes of DATA, which is aligned to 4096.
 */
export function requestingGuest(
  rows: readonly (readonly [type: number, sector: number, bytes: number])[],
  features = DISCARD_AND_ZERO,
): Uint8Array {
  const requests = new BlockRequests();
  // The data of all requests is the same first 16 KiB, behind which their headers lie.
  requests.reserve(4 * BLOCK, 0x5a);
  const statuses = rows.map(([type, sector, bytes]) =>
    type === TYPE.discard || type === TYPE.zero
      ? requests.add(
          type,
          0,
          16,
          undefined,
          new Uint8Array(Uint32Array.of(sector, 0, bytes / SECTOR, 0).buffer),
        )
      : requests.add(type, sector, bytes, DATA),
  );
  const config = (at: number) => [...virtioAsm.read(R.config + at), ...asm.printEax(4)];
  const code = [
    [...virtioAsm.start(features), ...config(BLOCK_CONFIG.capacity), ...config(BLOCK_CONFIG.blockSize)],
    rows.flatMap((_, i) => [...virtioAsm.offer(i + 1), ...virtioAsm.waitUsed(i + 1)]),
    [...statuses.flatMap((at) => asm.printMemory(at, 1)), ...asm.exit(0)],
  ];
  return buildPvhElf(virtioImage(code, requests.chains, requests.data));
}
