/**
 * Which pages of guest RAM may hold anything but zeroes, so that a snapshot need not read, and thereby
 * allocate, those that nobody has touched. When in doubt a page may.
 */
import { forEachDataRange, openFile, OPEN, readAt, type OwnedFd } from '../ffi/file.ts';
import { alignDown, alignUp, PAGE_BYTES } from '../machine/address.ts';
import { runsOfBits, uniteRuns, type PageRun } from '../machine/page-runs.ts';
import type { GuestMemory, MemoryRegion } from './guest-memory.ts';

/**
 * Pages that may hold anything but zeroes, as offsets of all of RAM. The others need not be read. Throws
 * SyscallError.
 */
export function usedPages(memory: GuestMemory): PageRun[] {
  return memory.regions.flatMap((region) => usedPagesOf(memory, region));
}

/**
 * Pages that differ from the memory files that they are mapped from, because somebody has written them since: the
 * kernel made copies. undefined where that cannot be told: RAM is no private mapping of files, or this process may
 * not read its page map. Throws SyscallError.
 */
export function copiedPages({ source, regions }: GuestMemory): PageRun[] | undefined {
  if (!source?.mapsFiles) return undefined;
  const found = regions.map(({ host, bytes, offset }) => readPageMap(host, bytes, offset, isCopy));
  return found.every((runs) => runs !== undefined) ? found.flat() : undefined;
}

/** Whether `copiedPages` can tell, without reading all of the page map. Throws SyscallError. */
export function knowsCopiedPages({ source, regions }: GuestMemory): boolean {
  if (!source?.mapsFiles) return false;
  return regions.every(({ host, offset }) => readPageMap(host, PAGE_BYTES, offset, isCopy) !== undefined);
}

function usedPagesOf({ hugepages, source }: GuestMemory, region: MemoryRegion): readonly PageRun[] {
  const { host, bytes, offset, fd } = region;
  // hugetlb pages have no entry in the page map while they move to another place, and their files no holes.
  if (hugepages) return [[offset, bytes]];
  const touched =
    fd === undefined
      ? (readPageMap(host, bytes, offset, isTouched) ?? [[offset, bytes]])
      : dataPages(fd, 0, bytes, offset);
  return source ? uniteRuns(touched, source.untouchedPages(offset, bytes)) : touched;
}

/**
 * Upper half of an entry. Bits 63 and 62: present in RAM, or in swap; bit 61: a page of a file, not a private copy.
 * (admin-guide/mm/pagemap.rst)
 */
const PAGEMAP = { presentOrSwapped: 0xc000_0000, file: 0x2000_0000 } as const;
const isTouched = (upper: number) => (upper & PAGEMAP.presentOrSwapped) !== 0;
const isCopy = (upper: number) => isTouched(upper) && (upper & PAGEMAP.file) === 0;
const PAGEMAP_ENTRY_BYTES = 8;
/** 128 MiB of RAM at a time. */
const ENTRIES_AT_ONCE = 32 * 1024;

/**
 * The pages of [host, host + bytes), a private mapping that starts at `offset` of RAM, whose entries are wanted.
 * undefined where this process may not read its page map.
 */
function readPageMap(
  host: number,
  bytes: number,
  offset: number,
  wanted: (upper: number) => boolean,
): PageRun[] | undefined {
  let pagemap: OwnedFd;
  try {
    pagemap = openFile('/proc/self/pagemap', OPEN.readOnly);
  } catch {
    return undefined;
  }
  try {
    const pages = bytes / PAGE_BYTES;
    const entries = new Uint8Array(ENTRIES_AT_ONCE * PAGEMAP_ENTRY_BYTES);
    const halves = new Uint32Array(entries.buffer);
    const bits = new Uint32Array(Math.ceil(pages / 32));
    for (let first = 0; first < pages; first += ENTRIES_AT_ONCE) {
      const count = Math.min(ENTRIES_AT_ONCE, pages - first);
      const piece = entries.subarray(0, count * PAGEMAP_ENTRY_BYTES);
      const at = (host / PAGE_BYTES + first) * PAGEMAP_ENTRY_BYTES;
      if (readAt(pagemap.fd, piece, at) < piece.length) return undefined;
      for (let i = 0; i < count; i++) {
        if (!wanted(halves[2 * i + 1]!)) continue;
        const page = first + i;
        bits[page >>> 5] = bits[page >>> 5]! | (1 << (page & 31));
      }
    }
    return runsOfBits(bits, pages, offset);
  } finally {
    pagemap.close();
  }
}

/**
 * The pages in [offset, offset + bytes) of `fd` that are no holes, as pages of RAM that starts at `ramOffset`
 * there. Throws SyscallError.
 */
export function dataPages(fd: number, offset: number, bytes: number, ramOffset: number): PageRun[] {
  const runs: PageRun[] = [];
  forEachDataRange(fd, offset, bytes, (start, length) => {
    const from = alignDown(start, PAGE_BYTES);
    const to = Math.min(alignUp(start + length, PAGE_BYTES), offset + bytes);
    const last = runs.at(-1);
    const at = from - offset + ramOffset;
    if (last !== undefined && last[0] + last[1] >= at)
      runs[runs.length - 1] = [last[0], Math.max(last[1], to - offset + ramOffset - last[0])];
    else runs.push([at, to - from]);
  });
  return runs;
}
