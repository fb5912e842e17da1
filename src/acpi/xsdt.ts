/** Extended System Description Table (XSDT): the addresses of the other tables. (ACPI 6.5 §5.2.8) */
import { putU64 } from '../binary/bytes.ts';
import type { GuestAddress } from '../machine/address.ts';
import { HEADER, SIGNATURE } from './acpi.layout.ts';
import { buildTable } from './sdt.ts';

const REVISION = 1;
export const XSDT_ENTRY_BYTES = 8;

/** `tables` are all but the DSDT, which the FADT points to. */
export function buildXsdt(tables: readonly GuestAddress[]): Uint8Array {
  const bytes = HEADER.size + XSDT_ENTRY_BYTES * tables.length;
  return buildTable(SIGNATURE.xsdt, REVISION, bytes, [], (_, view) => {
    tables.forEach((address, i) => putU64(view, HEADER.size + XSDT_ENTRY_BYTES * i, address));
  });
}
