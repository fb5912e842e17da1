/** MP and ACPI tables as `volt inspect` reads them back, from memory that anybody may have written. */
import { findTableInconsistencies } from '../../../src/acpi/acpi-consistency.ts';
import { readAcpiTables } from '../../../src/acpi/acpi-tables-read.ts';
import { buildAcpiTables } from '../../../src/acpi/acpi-tables.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { checksumByte } from '../../../src/binary/checksum.ts';
import { findFloatingPointer, readConfigTable, readFloatingPointer } from '../../../src/smp/mp-table-read.ts';
import { coresOnly, cpusOf, machineOf, numaOf } from '../../../test/unit/acpi/machines.ts';
import { readHexVector } from '../../../test/unit/support/vectors.ts';
import { kindOf, type FuzzTarget } from '../target.ts';

const POINTER_BYTES = 16;
const MP_CHECKSUM = 7;

const kindsOf = (problems: readonly string[]) =>
  [...new Set(problems.map(kindOf))].sort().slice(0, 3).join('|');

export const mpTarget: FuzzTarget = {
  name: 'mp-tables',
  what: 'MP floating pointers and configuration tables into their reader',
  seeds: () => ['2-cpus'].map((name) => readHexVector(`mp-table/${name}.hex`)),
  words: ['_MP_', 'PCMP', 'ISA   '],
  run: (input) => {
    const pointer = readFloatingPointer(input);
    const at = findFloatingPointer(input);
    const table = input.slice(POINTER_BYTES);
    const raw = readConfigTable(table);
    // The same with a sum that is right, or little would get past it.
    if (table.length > MP_CHECKSUM) {
      table[MP_CHECKSUM] = 0;
      table[MP_CHECKSUM] = checksumByte(table);
    }
    const summed = readConfigTable(table);
    if ((summed.value?.bytes ?? 0) > table.length) throw new Error('a table longer than its bytes');
    return `${at >= 0} ${kindsOf(pointer.problems)} ${raw.value !== undefined} ${kindsOf(summed.problems)}`;
  },
};

const MACHINES = [
  machineOf(cpusOf(coresOnly(4), 4, 2), { numa: numaOf(2) }),
  machineOf(cpusOf(coresOnly(2), 2, 1), { cpuHotplug: true }),
];
const [TABLES] = MACHINES.map(buildAcpiTables);
const LOW = TABLES!.tables.reduce((low, { address }) => Math.min(low, address), Infinity);
const HEADER_BYTES = 36;
const TABLE_CHECKSUM = 9;

function memoryBytes({ tables }: ReturnType<typeof buildAcpiTables>): Uint8Array {
  const end = Math.max(
    ...tables.filter(({ name }) => name !== 'acpi-rsdp').map((t) => t.address + t.bytes.length),
  );
  const memory = new Uint8Array(end - LOW);
  for (const { address, bytes } of tables) if (address < end) memory.set(bytes, address - LOW);
  return memory;
}

/** Corrects the sum of every table that is where one is as a rule, or little would get past it. */
function correctSums(memory: Uint8Array): void {
  const view = viewOf(memory);
  for (const { address } of TABLES!.tables) {
    const at = address - LOW;
    if (at < 0 || at + HEADER_BYTES > memory.length) continue;
    const table = memory.subarray(at, at + view.getUint32(at + 4, true));
    if (table.length <= TABLE_CHECKSUM) continue;
    table[TABLE_CHECKSUM] = 0;
    table[TABLE_CHECKSUM] = checksumByte(table);
  }
}

export const acpiTarget: FuzzTarget = {
  name: 'acpi-tables',
  what: 'ACPI tables into their reader',
  seeds: () => MACHINES.map((machine) => memoryBytes(buildAcpiTables(machine))),
  words: ['APIC', 'FACP', 'SRAT', 'SLIT', 'PPTT', 'HMAT', 'DSDT', 'XSDT'],
  run: (input) => {
    const memory = input.slice();
    const odd = (input.length & 1) === 0;
    if (odd) correctSums(memory);
    const rsdp = TABLES!.tables.find(({ address }) => address === TABLES!.rsdp)!;
    const read = (address: number, bytes: number) => {
      if (address >= rsdp.address && address + bytes <= rsdp.address + rsdp.bytes.length)
        return rsdp.bytes.subarray(address - rsdp.address, address - rsdp.address + bytes);
      return address >= LOW && address + bytes <= LOW + memory.length
        ? memory.subarray(address - LOW, address - LOW + bytes)
        : undefined;
    };
    const contents = readAcpiTables(read, TABLES!.rsdp);
    const disagreements = findTableInconsistencies(contents as never);
    return `${kindsOf(contents.problems)} ${disagreements.length > 0}`;
  },
};
