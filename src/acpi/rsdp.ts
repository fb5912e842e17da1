/** Root System Description Pointer (RSDP), revision 2. (ACPI 6.5 §5.2.5.3) */
import { putAscii, putU64, viewOf } from '../binary/bytes.ts';
import { checksumByte } from '../binary/checksum.ts';
import type { GuestAddress } from '../machine/address.ts';
import { RSDP, RSDP_V1_BYTES, RSDP_SIGNATURE } from './acpi.layout.ts';
import { OEM_ID } from './sdt.ts';

const REVISION = 2;

/**
 * Kernels that support ACPI 2.0 read the XSDT, older and smaller ones the RSDT. Both list the same tables.
 */
export function buildRsdp(xsdt: GuestAddress, rsdt: GuestAddress): Uint8Array {
  const bytes = new Uint8Array(RSDP.size);
  const view = viewOf(bytes);
  putAscii(bytes, RSDP.signature, RSDP_SIGNATURE);
  putAscii(bytes, RSDP.oemId, OEM_ID);
  bytes[RSDP.revision] = REVISION;
  view.setUint32(RSDP.rsdt, rsdt, true);
  view.setUint32(RSDP.length, RSDP.size, true);
  putU64(view, RSDP.xsdt, xsdt);
  bytes[RSDP.checksum] = checksumByte(bytes.subarray(0, RSDP_V1_BYTES));
  bytes[RSDP.extendedChecksum] = checksumByte(bytes);
  return bytes;
}
