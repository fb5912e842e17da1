/** Where persistent memory lies in the guest: behind all RAM. */
import { alignUp, GIB, guestAddress, MIB, type GuestAddress } from '../../machine/address.ts';
import { LAYOUT, type RamRange } from '../../machine/layout.ts';
import type { PmemConfig } from './spec.ts';

/**
 * Linux maps such memory in pieces of 2 MiB, and makes its page structures for sections of 128 MiB, which it does not like
 * to find shared with RAM. From a GiB on it can map even larger pages.
 */
export const PMEM_UNIT_BYTES = 2 * MIB;
const PMEM_ALIGNMENT = GIB;

export interface PmemPlacement {
  readonly id: string;
  readonly address: GuestAddress;
  /** Whole units. */
  readonly bytes: number;
  /** Of the file; what is behind it reads as zeroes. */
  readonly fileBytes: number;
}

/** A place for each device, in order, with the sizes of their files. */
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
