/**
 * Builds all ACPI tables of a machine and assigns their addresses. The platform is hardware-reduced ACPI: no
 * PM timer, no fixed events, no SCI. (ACPI 6.5 §4.1)
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
import { buildMcfg } from './mcfg.ts';
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
  /** All tables and the RSDP, by address. */
  readonly tables: readonly AcpiTable[];
}

const TABLE_ALIGNMENT = 16;
const AREA_END = LAYOUT.acpiTables.address + LAYOUT.acpiTables.bytes;

/**
 * Builds all tables. Boot protocols that have a field for it pass the address `rsdp` to the guest. Throws
 * VoltError 'usage' if the tables do not fit below the BIOS area; the message says how many CPUs would fit.
 */
export function buildAcpiTables(inputs: AcpiInputs): AcpiTables {
  const { tables, end } = placeTables(inputs);
  if (end > AREA_END) {
    const needed = end - LAYOUT.acpiTables.address;
    throw new VoltError(
      'usage',
      `Cannot build the ACPI tables of ${inputs.cpus.length} CPUs: they need ${needed} bytes, and there is space for ${LAYOUT.acpiTables.bytes}; use at most ${cpusThatFit(inputs)} CPUs with this topology`,
    );
  }
  return { rsdp: LAYOUT.acpiRsdp.address, tables };
}

interface PlacedTables {
  readonly tables: readonly AcpiTable[];
  /** End of the last table; the RSDP has its own address. */
  readonly end: number;
}

/**
 * The XSDT comes first, because its size follows from the number of tables; the others in the order of
 * building.
 */
function placeTables(inputs: AcpiInputs): PlacedTables {
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

/** The tables that RSDT and XSDT list after the FADT. */
function dataTables(inputs: AcpiInputs): { readonly name: string; readonly bytes: Uint8Array }[] {
  const { cpus, numa, serial, pci } = inputs;
  const tables = [{ name: 'acpi-madt', bytes: buildMadt(inputs) }];
  if (numa) {
    tables.push({ name: 'acpi-srat', bytes: buildSrat(cpus, numa.memory) });
    tables.push({ name: 'acpi-slit', bytes: buildSlit(numa.distances) });
    if (numa.latency || numa.bandwidth) tables.push({ name: 'acpi-hmat', bytes: buildHmat(cpus, numa) });
  }
  tables.push({ name: 'acpi-pptt', bytes: buildPptt(cpus) });
  if (pci) tables.push({ name: 'acpi-mcfg', bytes: buildMcfg(pci) });
  if (serial) tables.push({ name: 'acpi-spcr', bytes: buildSpcr() });
  return tables;
}

/** How many CPUs of `inputs` have tables that fit, by binary search: the size grows with their number. */
function cpusThatFit(inputs: AcpiInputs): number {
  let [fits, tooMany] = [0, inputs.cpus.length];
  while (tooMany - fits > 1) {
    const cpus = fits + Math.ceil((tooMany - fits) / 2);
    const { end } = placeTables({ ...inputs, cpus: inputs.cpus.slice(0, cpus) });
    if (end <= AREA_END) fits = cpus;
    else tooMany = cpus;
  }
  return fits;
}
