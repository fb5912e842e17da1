/** Pages of a private file mapping that this process has written to. (Linux admin-guide/mm/pagemap.rst) */
import { PAGE_BYTES } from '../machine/address.ts';
import { openFile, OPEN, readAt } from './file.ts';

/** Bits of an entry's upper half: present, swapped, and "page of a file", which it is no more once written. */
const ENTRY = { presentBit: 1 << 31, swappedBit: 1 << 30, fileBit: 1 << 29 } as const;
const ENTRY_BYTES = 8;
const ENTRIES_AT_ONCE = 32 * 1024;

/**
 * Whether a page of [host, host + bytes) is a copy of this process's own; undefined where this process may not
 * read its page map.
 */
export function hasPrivatePages(host: number, bytes: number): boolean | undefined {
  try {
    using pagemap = openFile('/proc/self/pagemap', OPEN.readOnly);
    const pages = Math.ceil(bytes / PAGE_BYTES);
    const entries = new Uint8Array(ENTRIES_AT_ONCE * ENTRY_BYTES);
    const halves = new Int32Array(entries.buffer);
    for (let first = 0; first < pages; first += ENTRIES_AT_ONCE) {
      const count = Math.min(ENTRIES_AT_ONCE, pages - first);
      const wanted = entries.subarray(0, count * ENTRY_BYTES);
      if (readAt(pagemap.fd, wanted, (host / PAGE_BYTES + first) * ENTRY_BYTES) < wanted.length)
        return undefined;
      for (let i = 0; i < count; i++) {
        const entry = halves[2 * i + 1]!;
        if (entry & ENTRY.swappedBit || (entry & ENTRY.presentBit && !(entry & ENTRY.fileBit))) return true;
      }
    }
    return false;
  } catch {
    return undefined;
  }
}
