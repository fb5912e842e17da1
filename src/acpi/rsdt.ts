/**
 * Root System Description Table (RSDT): the XSDT's list with 32-bit addresses. (ACPI 6.5 §5.2.7) Many small
 * kernels implement ACPI 1.0, which has no XSDT. All of Volt's tables are below 1 MiB.
 */
import type { GuestAddress } from '../machine/address.ts';
import { HEADER, SIGNATURE } from './acpi.layout.ts';
import { buildTable } from './sdt.ts';

const REVISION = 1;
export const RSDT_ENTRY_BYTES = 4;

/** `tables` are those of the XSDT. */
export function buildRsdt(tables: readonly GuestAddress[]): Uint8Array {
  const bytes = HEADER.size + RSDT_ENTRY_BYTES * tables.length;
  return buildTable(SIGNATURE.rsdt, REVISION, bytes, [], (_, view) => {
    tables.forEach((address, i) => view.setUint32(HEADER.size + RSDT_ENTRY_BYTES * i, address, true));
  });
}
