/** A plan as data for people and scripts, with everything in it checked. */
import type { EntryState, FileLoad, MemoryWrite } from '../boot/boot-plan.ts';
import { buildE820, type E820Entry } from '../boot/e820.ts';
import { baselineCpuid, type CpuVendor } from '../cpuid/baseline.ts';
import { describeCpuid, type CpuidDescription } from '../cpuid/describe.ts';
import type { RamRange } from '../machine/layout.ts';
import {
  readConfigTable,
  readFloatingPointer,
  type MpConfigTable,
  type MpFloatingPointer,
} from '../smp/mp-table-read.ts';
import type { CpuPlace, Topology } from '../smp/topology.ts';
import { planCpuid, type MachinePlan } from './plan.ts';

export interface MapRow {
  readonly name: string;
  readonly address: number;
  readonly bytes: number;
  /** Bytes that come from a file; the rest of a load is zero. */
  readonly fileBytes: number;
  readonly from: 'volt' | 'kernel' | 'initrd';
}

export interface MpInspection {
  readonly floatingPointerAddress: number;
  readonly floatingPointer: MpFloatingPointer | undefined;
  readonly configTable: MpConfigTable | undefined;
  /** Floating pointer and configuration table together. */
  readonly bytes: number;
}

export interface CpuInspection extends CpuPlace {
  readonly bsp: boolean;
  readonly cpuid: CpuidDescription;
}

/** A plan for people: what would be built, where, and whether its parts agree. */
export interface Inspection {
  readonly boot: { readonly protocol: string; readonly summary: string; readonly cmdline: string };
  readonly ram: readonly RamRange[];
  readonly e820: readonly E820Entry[];
  readonly map: readonly MapRow[];
  readonly mpTables: MpInspection;
  readonly topology: Topology;
  readonly cpus: readonly CpuInspection[];
  readonly entry: EntryState;
  /** Empty when everything agrees. */
  readonly problems: readonly string[];
}

export function inspectPlan(plan: MachinePlan, cmdline: string, vendor: CpuVendor): Inspection {
  const host = { cpuid: baselineCpuid(vendor), tscDeadline: true, tscKhz: 0 };
  const cpus = plan.cpus.map((cpu) => ({
    ...cpu,
    bsp: cpu.index === plan.bootCpu,
    cpuid: describeCpuid(planCpuid(plan, cpu, host)),
  }));
  const { mpTables, problems } = inspectMpTables(
    plan.mpTables.floatingPointer.address,
    plan.mpTables.floatingPointer.bytes,
    plan.mpTables.configTable.bytes,
  );
  const map = [...plan.writes.map(rowOfWrite), ...plan.loads.map(rowOfLoad)].sort(
    (a, b) => a.address - b.address,
  );
  return {
    boot: { protocol: plan.boot.protocol, summary: plan.boot.summary, cmdline },
    ram: plan.ranges,
    e820: buildE820(plan.ranges),
    map,
    mpTables,
    topology: plan.topology,
    cpus,
    entry: plan.boot.entry,
    problems: [...problems, ...overlaps(map), ...disagreements(mpTables.configTable, cpus)],
  };
}

/** Decodes both structures. `configTable` may be longer than the table. */
export function inspectMpTables(
  address: number,
  floatingPointer: Uint8Array,
  configTable: Uint8Array | undefined,
): { mpTables: MpInspection; problems: readonly string[] } {
  const pointer = readFloatingPointer(floatingPointer);
  const table = configTable
    ? readConfigTable(configTable)
    : { value: undefined, problems: ['MP configuration table: it lies outside the file'] };
  return {
    mpTables: {
      floatingPointerAddress: address,
      floatingPointer: pointer.value,
      configTable: table.value,
      bytes: (pointer.value ? 16 : 0) + (table.value?.bytes ?? 0),
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

/** MP tables and CPUID are two accounts of the same CPUs. */
function disagreements(table: MpConfigTable | undefined, cpus: readonly CpuInspection[]): string[] {
  const listed = table?.entries.filter((entry) => entry.type === 'processor') ?? [];
  if (listed.length !== cpus.length)
    return [`MP tables list ${listed.length} CPUs and the machine has ${cpus.length}`];
  return cpus.flatMap((cpu, i) => {
    const problems: string[] = [];
    const entry = listed[i]!;
    if (entry.apicId !== cpu.apicId)
      problems.push(`CPU ${i}: MP tables say APIC id ${entry.apicId}, not ${cpu.apicId}`);
    if (entry.bootstrap !== cpu.bsp)
      problems.push(`CPU ${i}: MP tables and the machine differ on whether it is the BSP`);
    if (cpu.cpuid.initialApicId !== (cpu.apicId & 0xff)) {
      problems.push(`CPU ${i}: CPUID leaf 1 says APIC id ${cpu.cpuid.initialApicId}, not ${cpu.apicId}`);
    }
    if (cpu.cpuid.x2apicId !== cpu.apicId) {
      problems.push(`CPU ${i}: CPUID leaf 0xB says APIC id ${cpu.cpuid.x2apicId}, not ${cpu.apicId}`);
    }
    return problems;
  });
}
