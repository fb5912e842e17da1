/**
 * The E820 memory map, which every boot protocol passes to the kernel. (ACPI 6.5 §15.1; types: table 15.4)
 */
import { MIB, guestAddress, type GuestAddress } from '../machine/address.ts';
import { EBDA_END, EBDA_START, LAYOUT, type RamRange } from '../machine/layout.ts';

export const E820_TYPE = { ram: 1, reserved: 2 } as const;

export interface E820Entry {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly type: (typeof E820_TYPE)[keyof typeof E820_TYPE];
}

/**
 * Base memory up to the EBDA is RAM; the EBDA and the BIOS area, which may hold MP tables, are reserved;
 * memory from 1 MiB is RAM. 0xA0000–0xF0000 has no entry.
 */
export function buildE820(ranges: readonly RamRange[]): E820Entry[] {
  const entries: E820Entry[] = [
    { address: guestAddress(0), bytes: EBDA_START, type: E820_TYPE.ram },
    { address: EBDA_START, bytes: EBDA_END - EBDA_START, type: E820_TYPE.reserved },
    { address: LAYOUT.biosArea.address, bytes: MIB - LAYOUT.biosArea.address, type: E820_TYPE.reserved },
  ];
  for (const { address, bytes } of ranges) {
    const start = Math.max(address, MIB);
    const end = address + bytes;
    if (end > start) entries.push({ address: guestAddress(start), bytes: end - start, type: E820_TYPE.ram });
  }
  return entries;
}
