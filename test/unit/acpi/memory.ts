/** Guest memory below 1 MiB with ACPI tables in it. */
import type { AcpiTables } from '../../../src/acpi/acpi-tables.ts';
import type { AcpiMemoryReader } from '../../../src/acpi/acpi-tables-read.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { checksumByte } from '../../../src/binary/checksum.ts';
import { MIB } from '../../../src/machine/address.ts';

export function memoryOf({ tables }: AcpiTables): Uint8Array {
  const memory = new Uint8Array(MIB);
  for (const { address, bytes } of tables) memory.set(bytes, address);
  return memory;
}

export function readerOf(memory: Uint8Array): AcpiMemoryReader {
  return (address, bytes) =>
    address + bytes <= memory.length ? memory.subarray(address, address + bytes) : undefined;
}

/** Changes the table called `name` in `memory`, and its checksum to match. */
export function tamper(
  memory: Uint8Array,
  { tables }: AcpiTables,
  name: string,
  change: (table: Uint8Array, view: DataView) => void,
): void {
  const { address, bytes } = tables.find((table) => table.name === name)!;
  const table = memory.subarray(address, address + bytes.length);
  change(table, viewOf(table));
  table[9] = 0;
  table[9] = checksumByte(table);
}
