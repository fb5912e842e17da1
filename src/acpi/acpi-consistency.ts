/** Compares MADT, SRAT, SLIT and PPTT, which describe the same CPUs and nodes, with each other. */
import type { MadtContents } from './madt-read.ts';
import type { SratContents } from './numa-read.ts';
import type { PpttContents } from './pptt-read.ts';

export interface ComparedTables {
  readonly madt: MadtContents | undefined;
  readonly srat: SratContents | undefined;
  /** The SLIT. */
  readonly distances: readonly (readonly number[])[] | undefined;
  readonly pptt: PpttContents | undefined;
}

/** One line for each contradiction. */
export function findTableInconsistencies({ madt, srat, distances, pptt }: ComparedTables): string[] {
  const problems: string[] = [];
  if (madt && srat) {
    const apicIds = madt.processors.map((cpu) => cpu.apicId);
    problems.push(
      ...differences(
        'APIC id',
        'MADT',
        apicIds,
        'SRAT',
        srat.cpus.map((cpu) => cpu.apicId),
      ),
    );
  }
  if (madt && pptt) {
    const uids = madt.processors.map((cpu) => cpu.uid);
    problems.push(
      ...differences(
        'processor',
        'MADT',
        uids,
        'PPTT',
        pptt.cpus.map((cpu) => cpu.uid),
      ),
    );
  }
  if (srat && distances) {
    const nodes = new Set([...srat.cpus, ...srat.memory].map(({ node }) => node));
    for (const node of nodes) {
      if (node >= distances.length) problems.push(`SLIT: node ${node} of the SRAT is missing`);
    }
  }
  return problems;
}

/** What only one of two tables lists. */
function differences(
  what: string,
  firstName: string,
  first: readonly number[],
  secondName: string,
  second: readonly number[],
): string[] {
  const [inFirst, inSecond] = [new Set(first), new Set(second)];
  return [
    ...first
      .filter((id) => !inSecond.has(id))
      .map((id) => `${secondName}: ${what} ${id} of the ${firstName} is missing`),
    ...second
      .filter((id) => !inFirst.has(id))
      .map((id) => `${firstName}: ${what} ${id} of the ${secondName} is missing`),
  ];
}
