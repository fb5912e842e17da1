/**
 * All ACPI tables of a machine, each at its place: what it takes to boot a kernel that knows ACPI 6.5 in its
 * hardware-reduced form, without PM timer, fixed events or SCI. (ACPI 6.5 §4.1)
 */
import { alignUp, guestAddress, type GuestAddress } from '../machine/address.ts';
import { LAYOUT } from '../machine/layout.ts';
import { VoltError } from '../volt-error.ts';
import { HEADER } from './acpi.layout.ts';
import type { AcpiInputs } from './acpi-inputs.ts';
import { buildDsdt } from './dsdt.ts';
import { buildFadt } from './fadt.ts';
import { buildHmat } from './hmat.ts';
import { buildMadt } from './madt.ts';
import { buildPptt } from './pptt.ts';
import { buildRsdp } from './rsdp.ts';
import { buildRsdt } from './rsdt.ts';
import { buildSlit } from './slit.ts';
import { buildSpcr } from './spcr.ts';
import { buildSrat } from './srat.ts';
import { buildXsdt, XSDT_ENTRY_BYTES } from './xsdt.ts';

export interface AcpiTable {
  readonly name: string;
  readonly address: GuestAddress;
  readonly bytes: Uint8Array;
}

export interface AcpiTables {
  readonly rsdp: GuestAddress;
  /** The RSDP among them, ascending. */
  readonly tables: readonly AcpiTable[];
}

const TABLE_ALIGNMENT = 16;
const ROOM_END = LAYOUT.acpiTables.address + LAYOUT.acpiTables.bytes;

/**
 * Builds and places all tables. The RSDP lies at `rsdp`; boot protocols that can, hand that address over.
 * Throws VoltError 'usage' when they do not fit below the BIOS area; the message says how many CPUs would.
 */
export function buildAcpiTables(inputs: AcpiInputs): AcpiTables {
  const { tables, end } = placeTables(inputs);
  if (end > ROOM_END) {
    const taken = end - LAYOUT.acpiTables.address;
    throw new VoltError(
      'usage',
      `Cannot fit the ACPI tables of ${inputs.cpus.length} CPUs into ${LAYOUT.acpiTables.bytes} bytes: they take ${taken} (expected at most ${cpusThatFit(inputs)} CPUs like these)`,
    );
  }
  return { rsdp: LAYOUT.acpiRsdp.address, tables };
}

interface Placed {
  readonly tables: readonly AcpiTable[];
  /** First byte behind the last table, the RSDP aside. */
  readonly end: number;
}

/** The XSDT first, room for which is known from the number of its entries; then in the order they are built. */
function placeTables(inputs: AcpiInputs): Placed {
  const tables: AcpiTable[] = [];
  let end: number = LAYOUT.acpiTables.address;
  const reserve = (bytes: number): GuestAddress => {
    const address = guestAddress(end);
    end = alignUp(end + bytes, TABLE_ALIGNMENT);
    return address;
  };
  const place = (name: string, bytes: Uint8Array): GuestAddress => {
    const address = reserve(bytes.length);
    tables.push({ name, address, bytes });
    return address;
  };
  const optional = dataTables(inputs);
  const xsdt = reserve(HEADER.size + XSDT_ENTRY_BYTES * (optional.length + 1));
  const dsdt = place('acpi-dsdt', buildDsdt(inputs));
  const listed = [
    place('acpi-fadt', buildFadt(dsdt, inputs.cpus)),
    ...optional.map(({ name, bytes }) => place(name, bytes)),
  ];
  tables.unshift({ name: 'acpi-xsdt', address: xsdt, bytes: buildXsdt(listed) });
  const rsdt = place('acpi-rsdt', buildRsdt(listed));
  tables.push({ name: 'acpi-rsdp', address: LAYOUT.acpiRsdp.address, bytes: buildRsdp(xsdt, rsdt) });
  return { tables, end };
}

/** What RSDT and XSDT list behind the FADT. */
function dataTables(inputs: AcpiInputs): { readonly name: string; readonly bytes: Uint8Array }[] {
  const { cpus, numa, serial } = inputs;
  const tables = [{ name: 'acpi-madt', bytes: buildMadt(inputs) }];
  if (numa) {
    tables.push({ name: 'acpi-srat', bytes: buildSrat(cpus, numa.memory) });
    tables.push({ name: 'acpi-slit', bytes: buildSlit(numa.distances) });
    if (numa.latency || numa.bandwidth) tables.push({ name: 'acpi-hmat', bytes: buildHmat(cpus, numa) });
  }
  tables.push({ name: 'acpi-pptt', bytes: buildPptt(cpus) });
  if (serial) tables.push({ name: 'acpi-spcr', bytes: buildSpcr() });
  return tables;
}

/** The most of the first CPUs of `inputs` whose tables have room: by halving, as the size only grows with them. */
function cpusThatFit(inputs: AcpiInputs): number {
  let [fits, tooMany] = [0, inputs.cpus.length];
  while (tooMany - fits > 1) {
    const cpus = fits + Math.ceil((tooMany - fits) / 2);
    const { end } = placeTables({ ...inputs, cpus: inputs.cpus.slice(0, cpus) });
    if (end <= ROOM_END) fits = cpus;
    else tooMany = cpus;
  }
  return fits;
}
