/** Guest addresses of persistent memory: above all RAM. */
import { alignUp, GIB, guestAddress, MIB, type GuestAddress } from '../../machine/address.ts';
import { LAYOUT, type RamRange } from '../../machine/layout.ts';
import type { PmemConfig } from './spec.ts';

/**
 * Linux maps persistent memory in pages of 2 MiB, or of 1 GiB where aligned, and allocates its page
 * structures by sections of 128 MiB, which must not be shared with RAM.
 */
export const PMEM_UNIT_BYTES = 2 * MIB;
const PMEM_ALIGNMENT = GIB;

export interface PmemPlacement {
  readonly id: string;
  readonly address: GuestAddress;
  /** Whole units. */
  readonly bytes: number;
  /** Bytes of the file; the rest of the region reads as zeroes. */
  readonly fileBytes: number;
}

/** Assigns each device an address, in order; `fileBytes` are the sizes of their files. */
export function placePmem(
  devices: readonly Pick<PmemConfig, 'id'>[],
  fileBytes: readonly number[],
  ranges: readonly RamRange[],
): PmemPlacement[] {
  const last = ranges.at(-1)!;
  let next: number = Math.max(LAYOUT.highMemory.address, last.address + last.bytes);
  return devices.map(({ id }, i) => {
    const bytes = alignUp(fileBytes[i]!, PMEM_UNIT_BYTES);
    const address = guestAddress(alignUp(next, PMEM_ALIGNMENT));
    next = address + bytes;
    return { id, address, bytes, fileBytes: fileBytes[i]! };
  });
}
