/** The memory map that every boot protocol hands over, as E820 has it. (ACPI 6.5 §15, table 15.4) */
import { MIB, guestAddress, type GuestAddress } from '../machine/address.ts';
import { EBDA_END, EBDA_START, LAYOUT, type RamRange } from '../machine/layout.ts';

export const E820_TYPE = { ram: 1, reserved: 2 } as const;

export interface E820Entry {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly type: (typeof E820_TYPE)[keyof typeof E820_TYPE];
}

/**
 * Base memory up to the EBDA, the EBDA and the BIOS area (both hold MP tables) reserved, the rest RAM.
 * 0xA0000–0xF0000 is left out: neither RAM nor firmware.
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
