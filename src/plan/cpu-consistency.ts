/**
 * Compares the descriptions of the CPUs that a guest reads (MP tables, MADT, SRAT, PPTT, CPUID) with the
 * plan, and so with each other.
 */
import type { AcpiContents } from '../acpi/acpi-tables-read.ts';
import type { CpuidDescription } from '../cpuid/describe.ts';
import type { MpConfigTable } from '../smp/mp-table-read.ts';
import type { CpuPlacement } from '../smp/topology.ts';

export interface DescribedCpu extends CpuPlacement {
  readonly bsp: boolean;
  readonly present: boolean;
  readonly node: number | undefined;
  readonly cpuid: CpuidDescription;
}

export interface CpuDescriptions {
  readonly cpus: readonly DescribedCpu[];
  readonly mpTable: MpConfigTable | undefined;
  readonly acpi: AcpiContents | undefined;
}

/** One line for each contradiction. */
export function findCpuInconsistencies({ cpus, mpTable, acpi }: CpuDescriptions): string[] {
  return [
    ...cpus.flatMap(compareCpuid),
    ...compareLevels(cpus),
    ...(mpTable ? compareMpTable(cpus, mpTable) : []),
    ...(acpi?.madt ? compareMadt(cpus, acpi.madt) : []),
    ...(acpi?.srat ? compareSrat(cpus, acpi.srat) : []),
    ...(acpi?.pptt ? comparePptt(cpus, acpi.pptt) : []),
  ];
}

function compareCpuid(cpu: DescribedCpu): string[] {
  const problems: string[] = [];
  if (cpu.cpuid.initialApicId !== (cpu.apicId & 0xff)) {
    problems.push(
      `CPU ${cpu.index}: the APIC id in CPUID leaf 1 is ${cpu.cpuid.initialApicId} (expected ${cpu.apicId & 0xff})`,
    );
  }
  if (cpu.cpuid.x2apicId !== cpu.apicId) {
    problems.push(
      `CPU ${cpu.index}: the APIC id in CPUID leaf 0xB is ${cpu.cpuid.x2apicId} (expected ${cpu.apicId})`,
    );
  }
  return problems;
}

/**
 * Checks the levels of CPUID leaf 0xB or 0x1F. Software identifies the domains of a level by shifting APIC
 * ids. The count in EBX is the capacity of a domain in logical CPUs, for display only (Intel SDM 2A, CPUID
 * leaf 0BH): a package that is partly filled has fewer. So at every level
 *
 *     CPUs in the domain <= count <= 2^shift
 *
 * and two CPUs must share a core or a package if and only if the shifted ids are equal. The embedded kernel
 * makes the same checks (kernels/smp/topology.h).
 */
function compareLevels(cpus: readonly DescribedCpu[]): string[] {
  const domain = (cpu: DescribedCpu, level: number) =>
    `${level}.${Math.floor(cpu.apicId / 2 ** cpu.cpuid.levels[level]!.shift)}`;
  const members = new Map<string, number>();
  for (const cpu of cpus) {
    for (const level of cpu.cpuid.levels.keys()) {
      const key = domain(cpu, level);
      members.set(key, (members.get(key) ?? 0) + 1);
    }
  }
  return cpus.flatMap((cpu, i) => {
    const problems: string[] = [];
    for (const [level, { type, shift, logicalProcessors: count }] of cpu.cpuid.levels.entries()) {
      const found = members.get(domain(cpu, level))!;
      if (found > count)
        problems.push(
          `CPU ${cpu.index}: the ${type} level of CPUID has a capacity of ${count} CPUs, but there are ${found}`,
        );
      if (count > 2 ** shift)
        problems.push(
          `CPU ${cpu.index}: the ${type} level of CPUID has a capacity of ${count} CPUs, but an APIC id field of ${shift} bits`,
        );
    }
    const before = cpus[i - 1];
    const last = cpu.cpuid.levels.length - 1;
    if (!before || last < 1) return problems;
    const shares = (level: number) => domain(cpu, level) === domain(before, level);
    const sharesPackage = cpu.socket === before.socket;
    if (shares(last) !== sharesPackage)
      problems.push(
        `CPUs ${before.index} and ${cpu.index}: CPUID and the topology differ on whether they share a package`,
      );
    if (shares(0) !== (sharesPackage && cpu.die === before.die && cpu.core === before.core))
      problems.push(
        `CPUs ${before.index} and ${cpu.index}: CPUID and the topology differ on whether they share a core`,
      );
    return problems;
  });
}

/** MP tables list the CPUs present at start. */
function compareMpTable(all: readonly DescribedCpu[], table: MpConfigTable): string[] {
  const cpus = all.filter((cpu) => cpu.present);
  const listed = table.entries.filter((entry) => entry.type === 'processor');
  if (listed.length !== cpus.length)
    return [`the MP tables list ${listed.length} CPUs (expected ${cpus.length})`];
  return cpus.flatMap((cpu, i) => {
    const entry = listed[i]!;
    const problems: string[] = [];
    if (entry.apicId !== cpu.apicId)
      problems.push(
        `CPU ${cpu.index}: the APIC id in the MP tables is ${entry.apicId} (expected ${cpu.apicId})`,
      );
    if (entry.bootstrap !== cpu.bsp)
      problems.push(`CPU ${cpu.index}: the MP tables and the machine differ on whether it is the BSP`);
    return problems;
  });
}

function compareMadt(
  cpus: readonly DescribedCpu[],
  { processors }: NonNullable<AcpiContents['madt']>,
): string[] {
  const byUid = new Map(processors.map((processor) => [processor.uid, processor]));
  const problems = cpus.flatMap((cpu) => {
    const entry = byUid.get(cpu.index);
    if (!entry) return [`CPU ${cpu.index}: the MADT does not list it`];
    const wrong: string[] = [];
    if (entry.apicId !== cpu.apicId)
      wrong.push(`CPU ${cpu.index}: the APIC id in the MADT is ${entry.apicId} (expected ${cpu.apicId})`);
    if (entry.enabled !== cpu.present)
      wrong.push(`CPU ${cpu.index}: the MADT and the machine differ on whether it is present`);
    return wrong;
  });
  if (processors.length !== cpus.length)
    problems.push(`the MADT lists ${processors.length} CPUs (expected ${cpus.length})`);
  const bsp = cpus.find((cpu) => cpu.bsp);
  if (processors[0]?.apicId !== bsp?.apicId)
    problems.push(
      `the first APIC id in the MADT is ${processors[0]?.apicId} (expected ${bsp?.apicId}, the BSP's)`,
    );
  return problems;
}

function compareSrat(cpus: readonly DescribedCpu[], srat: NonNullable<AcpiContents['srat']>): string[] {
  const nodes = new Map(srat.cpus.map(({ apicId, node }) => [apicId, node]));
  return cpus
    .filter((cpu) => nodes.get(cpu.apicId) !== cpu.node)
    .map(
      (cpu) => `CPU ${cpu.index}: the node in the SRAT is ${nodes.get(cpu.apicId)} (expected ${cpu.node})`,
    );
}

/** Two CPUs must share a package or core in the PPTT if and only if they do in the topology. */
function comparePptt(cpus: readonly DescribedCpu[], pptt: NonNullable<AcpiContents['pptt']>): string[] {
  const paths = new Map(pptt.cpus.map(({ uid, path }) => [uid, path]));
  const placement = (cpu: DescribedCpu) => [cpu.socket, cpu.die, cpu.core, cpu.thread];
  return cpus.slice(1).flatMap((cpu, i) => {
    const before = cpus[i]!;
    const [path, pathBefore] = [paths.get(cpu.index), paths.get(before.index)];
    if (!path || !pathBefore) return [`CPU ${cpu.index}: the PPTT does not list it`];
    const [sharesPackage, saysPackage] = [cpu.socket === before.socket, path[0] === pathBefore[0]];
    const [sharesCore, saysCore] = [
      sharedLevels(placement(cpu), placement(before)) >= 3,
      cpu.cpuid.levels[0]!.logicalProcessors > 1 && sharedLevels(path, pathBefore) >= path.length - 1,
    ];
    const problems: string[] = [];
    if (sharesPackage !== saysPackage)
      problems.push(
        `CPUs ${before.index} and ${cpu.index}: the PPTT and the topology differ on whether they share a package`,
      );
    if (sharesCore !== saysCore)
      problems.push(
        `CPUs ${before.index} and ${cpu.index}: the PPTT and the topology differ on whether they share a core`,
      );
    return problems;
  });
}

/** Number of levels, from the package down, that two CPUs share. */
function sharedLevels(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((value, level) => value !== b[level]);
  return first < 0 ? a.length : first;
}
