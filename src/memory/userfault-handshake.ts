/**
 * What a handler of page faults is told with its userfaultfd: a JSON array with an object for each region of
 * RAM, as Firecracker sends it. Pure. (Firecracker docs/snapshotting/handling-page-faults-on-snapshot-resume.md)
 */
import { MIB, PAGE_BYTES } from '../machine/address.ts';

const HUGE_PAGE_BYTES = 2 * MIB;

interface Region {
  readonly offset: number;
  readonly bytes: number;
  readonly host: number;
}

export function encodeHandshake(regions: readonly Region[], hugepages: boolean): Uint8Array {
  const pageBytes = hugepages ? HUGE_PAGE_BYTES : PAGE_BYTES;
  const mappings = regions.map(({ offset, bytes, host }) => ({
    base_host_virt_addr: host,
    size: bytes,
    offset,
    page_size: pageBytes,
    // In bytes, too, in spite of its name.
    page_size_kib: pageBytes,
  }));
  return Buffer.from(JSON.stringify(mappings), 'utf8');
}
