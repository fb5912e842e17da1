/** The log of pages that a back-end has written: a bit per page of guest physical memory. (vhost-user.rst, "Migration") */
import { PAGE_BYTES } from '../../machine/address.ts';
import type { GuestRam } from '../transport/guest-ram.ts';

/** Bytes of the log for guest RAM that ends at `ramEnd`. */
export function writeLogBytes(ramEnd: number): number {
  return Math.ceil(ramEnd / PAGE_BYTES / 8);
}

/** Calls `visit` with the guest physical range of each run of logged pages. */
export function forEachLoggedRun(bits: Uint8Array, visit: (address: number, bytes: number) => void): void {
  let start = -1;
  for (let index = 0; index <= bits.length; index++) {
    const byte = bits[index] ?? 0;
    if (byte === 0 && start < 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      const page = 8 * index + bit;
      const isSet = ((byte >>> bit) & 1) !== 0;
      if (isSet && start < 0) start = page;
      if (isSet || start < 0) continue;
      visit(start * PAGE_BYTES, (page - start) * PAGE_BYTES);
      start = -1;
    }
  }
}

/** Marks the logged pages, for a snapshot. */
export function markLoggedPages(bits: Uint8Array, ram: GuestRam): void {
  forEachLoggedRun(bits, (address, bytes) => {
    if (ram.contains(address, bytes)) return ram.markWritten(address, bytes);
    // The run reaches over the end of a region.
    for (let done = 0; done < bytes; done += PAGE_BYTES) ram.markWritten(address + done, PAGE_BYTES);
  });
}
