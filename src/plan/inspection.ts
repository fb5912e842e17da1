/** A plan as data for `volt inspect`, with the results of all checks. */
import type { AcpiPci } from '../acpi/acpi-inputs.ts';
import { readAcpiTables, type AcpiContents } from '../acpi/acpi-tables-read.ts';
import type { EntryState, FileLoad, MemoryWrite } from '../boot/boot-plan.ts';
import { buildE820, type E820Entry } from '../boot/e820.ts';
import { baselineCpuid, type CpuVendor } from '../cpuid/baseline.ts';
import { describeCpuid } from '../cpuid/describe.ts';
import type { RamRange } from '../machine/layout.ts';
import {
  readConfigTable,
  readFloatingPointer,
  type MpConfigTable,
  type MpFloatingPointer,
} from '../smp/mp-table-read.ts';
import { FLOATING_POINTER } from '../smp/mp-table.layout.ts';
import type { Topology } from '../smp/topology.ts';
import { findCpuInconsistencies, type DescribedCpu } from './cpu-consistency.ts';
import type { PmemPlacement } from '../virtio/pmem/placement.ts';
import { planCpuid, type MachinePlan, type PlannedDevice } from './plan.ts';

export interface MapRow {
  readonly name: string;
  readonly address: number;
  readonly bytes: number;
  /** Bytes from a file; the rest of a load is zero. */
  readonly fileBytes: number;
  readonly from: 'volt' | 'kernel' | 'initrd';
}

/** Decoded MP tables. */
export interface MpInspection {
  readonly floatingPointerAddress: number;
  readonly floatingPointer: MpFloatingPointer | undefined;
  readonly configTable: MpConfigTable | undefined;
  /** Size of the floating pointer and the configuration table together. */
  readonly bytes: number;
}

/** What would be built, its addresses, and whether its parts are consistent. */
export interface Inspection {
  readonly boot: { readonly protocol: string; readonly summary: string; readonly cmdline: string };
  readonly ram: readonly RamRange[];
  readonly e820: readonly E820Entry[];
  readonly map: readonly MapRow[];
  /** undefined if there are none. */
  readonly mpTables: MpInspection | undefined;
  readonly acpi: AcpiContents | undefined;
  readonly topology: Topology;
  readonly cpus: readonly DescribedCpu[];
  readonly devices: readonly PlannedDevice[];
  readonly pmem: readonly PmemPlacement[];
  /** undefined: there is no PCI bus. */
  readonly pci: AcpiPci | undefined;
  readonly entry: EntryState;
  /** What the kernel asks for in vain. */
  readonly warnings: readonly string[];
  /** One line each; empty if all checks pass. */
  readonly problems: readonly string[];
}

export function inspectPlan(plan: MachinePlan, cmdline: string, vendor: CpuVendor): Inspection {
  const host = { cpuid: baselineCpuid(vendor), tscDeadline: true, tscKhz: 0 };
  const cpus = plan.cpus.map((cpu) => ({
    ...cpu,
    bsp: cpu.index === plan.bootCpu,
    present: cpu.index < plan.present,
    node: plan.nodeOfCpu[cpu.index],
    cpuid: describeCpuid(planCpuid(plan, cpu, host)),
  }));
  const mp = plan.mpTables
    ? inspectMpTables(
        plan.mpTables.floatingPointer.address,
        plan.mpTables.floatingPointer.bytes,
        plan.mpTables.configTable.bytes,
      )
    : undefined;
  // Decoded from memory, as a kernel does it, not from the builder's inputs.
  const acpi = plan.acpi ? readAcpiTables((address, bytes) => readWrites(plan, address, bytes)) : undefined;
  const map = [...plan.writes.map(rowOfWrite), ...plan.loads.map(rowOfLoad)].sort(
    (a, b) => a.address - b.address,
  );
  return {
    boot: { protocol: plan.boot.protocol, summary: plan.boot.summary, cmdline },
    ram: plan.ranges,
    e820: buildE820(plan.ranges),
    map,
    mpTables: mp?.mpTables,
    acpi,
    topology: plan.topology,
    cpus,
    devices: plan.devices,
    pmem: plan.pmem,
    pci: plan.pci,
    entry: plan.boot.entry!,
    warnings: plan.boot.warnings ?? [],
    problems: [
      ...(mp?.problems ?? []),
      ...(acpi?.problems ?? []),
      ...overlaps(map),
      ...overlaps(physicalMap(plan)),
      ...findCpuInconsistencies({ cpus, mpTable: mp?.mpTables.configTable, acpi }),
    ],
  };
}

/** Decodes both structures. `configTable` starts with the table and may continue after it. */
export function inspectMpTables(
  address: number,
  floatingPointer: Uint8Array,
  configTable: Uint8Array | undefined,
): { mpTables: MpInspection; problems: readonly string[] } {
  const pointer = readFloatingPointer(floatingPointer);
  const table = configTable
    ? readConfigTable(configTable)
    : { value: undefined, problems: ['MP configuration table: its address is outside the file'] };
  return {
    mpTables: {
      floatingPointerAddress: address,
      floatingPointer: pointer.value,
      configTable: table.value,
      bytes: (pointer.value ? FLOATING_POINTER.size : 0) + (table.value?.bytes ?? 0),
    },
    problems: [...pointer.problems, ...table.problems],
  };
}

function rowOfWrite({ name, address, bytes }: MemoryWrite): MapRow {
  return { name, address, bytes: bytes.length, fileBytes: 0, from: 'volt' };
}

function rowOfLoad({ name, address, memoryBytes, fileBytes, file }: FileLoad): MapRow {
  return { name, address, bytes: memoryBytes, fileBytes, from: file };
}

function overlaps(map: readonly MapRow[]): string[] {
  return map.flatMap((row, i) => {
    const before = map[i - 1];
    return before && before.address + before.bytes > row.address
      ? [`${before.name} and ${row.name} overlap`]
      : [];
  });
}

/** Guest physical address ranges of RAM, devices and persistent memory. */
function physicalMap({ ranges, devices, pmem, pci }: MachinePlan): MapRow[] {
  const row = (name: string, { address, bytes }: { address: number; bytes: number }): MapRow => ({
    ...{ name, address, bytes },
    ...{ fileBytes: 0, from: 'volt' },
  });
  const rows = [
    ...ranges.map((each) => row('RAM', each)),
    ...[...devices, ...pmem].map((each) => row(each.id, each)),
    ...(pci ? [row('ECAM', pci.ecam), row('PCI memory above RAM', pci.buses[0]!.windows[1]!)] : []),
  ];
  return rows.sort((a, b) => a.address - b.address);
}

function readWrites(plan: MachinePlan, address: number, length: number): Uint8Array | undefined {
  const write = plan.writes.find(
    (each) => address >= each.address && address + length <= each.address + each.bytes.length,
  );
  return write?.bytes.subarray(address - write.address, address - write.address + length);
}
