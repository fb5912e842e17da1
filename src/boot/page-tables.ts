/** Page tables for the 64-bit entry: the first GiB, identity-mapped in pages of 2 MiB. (Intel SDM 3A §4.5) */
import { putU64, viewOf } from '../binary/bytes.ts';
import { GIB, MIB, PAGE_BYTES, type GuestAddress } from '../machine/address.ts';

const PRESENT_WRITABLE = 0b11;
const LARGE_PAGE = 1 << 7;
const ENTRIES = 512;

/** Size of the mapping, from address 0. */
export const IDENTITY_MAPPED_BYTES = GIB;

/** PML4, PDPT and page directory, one page each, for guest address `at`, the value of CR3. */
export function buildPageTables(at: GuestAddress): Uint8Array {
  const tables = new Uint8Array(3 * PAGE_BYTES);
  const view = viewOf(tables);
  putU64(view, 0, at + PAGE_BYTES + PRESENT_WRITABLE);
  putU64(view, PAGE_BYTES, at + 2 * PAGE_BYTES + PRESENT_WRITABLE);
  for (let i = 0; i < ENTRIES; i++) {
    putU64(view, 2 * PAGE_BYTES + i * 8, i * 2 * MIB + PRESENT_WRITABLE + LARGE_PAGE);
  }
  return tables;
}
