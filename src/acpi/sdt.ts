/**
 * System description tables: header and checksum (ACPI 6.5 §5.2.6), generic address structure (§5.2.3.2), and
 * the structures that follow a table's fixed fields.
 */
import { putAscii, putU64, viewOf } from '../binary/bytes.ts';
import { checksumByte } from '../binary/checksum.ts';
import { ACCESS_BYTE, ADDRESS_SPACE_IO, GENERIC_ADDRESS, HEADER } from './acpi.layout.ts';

export const OEM_ID = 'VOLT  ';
const CREATOR_ID = 'VOLT';
const OEM_REVISION = 1;
const CREATOR_REVISION = 1;

/** A table: `fixedBytes` of header and fixed fields, which `fill` sets, followed by `structures`. */
export function buildTable(
  signature: string,
  revision: number,
  fixedBytes: number,
  structures: readonly Uint8Array[],
  fill: (table: Uint8Array, view: DataView) => void = () => {},
): Uint8Array {
  const table = new Uint8Array(fixedBytes + structures.reduce((sum, { length }) => sum + length, 0));
  const view = viewOf(table);
  putAscii(table, HEADER.signature, signature);
  view.setUint32(HEADER.length, table.length, true);
  table[HEADER.revision] = revision;
  putAscii(table, HEADER.oemId, OEM_ID);
  putAscii(table, HEADER.oemTableId, `VOLT${signature}`);
  view.setUint32(HEADER.oemRevision, OEM_REVISION, true);
  putAscii(table, HEADER.creatorId, CREATOR_ID);
  view.setUint32(HEADER.creatorRevision, CREATOR_REVISION, true);
  fill(table, view);
  let at = fixedBytes;
  for (const structure of structures) {
    table.set(structure, at);
    at += structure.length;
  }
  table[HEADER.checksum] = checksumByte(table);
  return table;
}

/** Writes an 8-bit I/O port as a generic address structure. */
export function putPort(view: DataView, offset: number, port: number): void {
  view.setUint8(offset + GENERIC_ADDRESS.space, ADDRESS_SPACE_IO);
  view.setUint8(offset + GENERIC_ADDRESS.bitWidth, 8);
  view.setUint8(offset + GENERIC_ADDRESS.accessSize, ACCESS_BYTE);
  putU64(view, offset + GENERIC_ADDRESS.address, port);
}

/** A structure that starts with a type byte and a length byte; `fill` sets the rest. */
export function typedEntry(
  type: number,
  size: number,
  fill: (entry: Uint8Array, view: DataView) => void,
): Uint8Array {
  const entry = new Uint8Array(size);
  entry[0] = type;
  entry[1] = size;
  fill(entry, viewOf(entry));
  return entry;
}
