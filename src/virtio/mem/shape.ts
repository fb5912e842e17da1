/** Sizes of hotpluggable memory: a region of blocks that are plugged, in slots that KVM knows. */
import { alignUp, GIB, guestAddress, MIB, type GuestAddress } from '../../machine/address.ts';
import { LAYOUT, type RamRange } from '../../machine/layout.ts';

export interface MemShape {
  /** Sizes in MiB. Each is a multiple of the one before. */
  readonly blockMib: number;
  readonly slotMib: number;
  readonly totalMib: number;
}

export interface MemPlacement extends MemShape {
  readonly address: GuestAddress;
  readonly node: number;
}

export const blocksOf = ({ totalMib, blockMib }: MemShape) => totalMib / blockMib;

/** The region lies above all RAM. Linux adds memory in pieces of 128 MiB and more, aligned to their size. */
export function placeMem(
  shape: MemShape & { readonly node: number },
  ranges: readonly RamRange[],
): MemPlacement {
  const last = ranges.at(-1)!;
  const end = Math.max(LAYOUT.highMemory.address, last.address + last.bytes);
  const { blockMib, slotMib, totalMib, node } = shape;
  return { blockMib, slotMib, totalMib, node, address: guestAddress(alignUp(end, GIB)) };
}

/** The whole region, plugged or not. */
export function hotplugRange({ address, totalMib }: MemPlacement): RamRange {
  return { address, bytes: totalMib * MIB };
}
