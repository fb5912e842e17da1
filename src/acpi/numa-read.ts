/** Decodes SRAT and SLIT and reports their errors. (ACPI 6.5 §5.2.16, §5.2.17) */
import { getU64, viewOf } from '../binary/bytes.ts';
import {
  SLIT,
  SLIT_LOCAL,
  SRAT,
  SRAT_ENABLED,
  SRAT_LOCAL_APIC,
  SRAT_LOCAL_X2APIC,
  SRAT_MEMORY,
  SRAT_TYPE,
} from './acpi.layout.ts';
import { readEntries, findDuplicates, type Entry } from './read-entries.ts';

export interface SratContents {
  readonly cpus: readonly { readonly apicId: number; readonly node: number }[];
  readonly memory: readonly { readonly address: number; readonly bytes: number; readonly node: number }[];
}

const SIZES = {
  [SRAT_TYPE.localApic]: SRAT_LOCAL_APIC.size,
  [SRAT_TYPE.memory]: SRAT_MEMORY.size,
  [SRAT_TYPE.localX2apic]: SRAT_LOCAL_X2APIC.size,
} as const;

/** Ignores entries that are not enabled. `table` has at least SRAT.size bytes. */
export function readSrat(table: Uint8Array, problems: string[]): SratContents {
  const entries = readEntries('SRAT', table, SRAT.size, SIZES, problems);
  const cpus = entries.flatMap(readCpu);
  const memory = entries.flatMap(readMemory).sort((a, b) => a.address - b.address);
  for (const id of findDuplicates(cpus.map((cpu) => cpu.apicId)))
    problems.push(`SRAT: APIC id ${id} is used twice`);
  memory.slice(1).forEach((range, i) => {
    const before = memory[i]!;
    if (before.address + before.bytes > range.address)
      problems.push(`SRAT: memory ranges of node ${before.node} and node ${range.node} overlap`);
  });
  return { cpus, memory };
}

function readCpu({ type, view }: Entry): SratContents['cpus'] {
  if (type === SRAT_TYPE.localApic && view.getUint32(SRAT_LOCAL_APIC.flags, true) & SRAT_ENABLED) {
    const { domainLow, domainHigh } = SRAT_LOCAL_APIC;
    const highestFirst = [domainHigh + 2, domainHigh + 1, domainHigh, domainLow];
    const node = highestFirst.reduce((value, offset) => value * 256 + view.getUint8(offset), 0);
    return [{ apicId: view.getUint8(SRAT_LOCAL_APIC.apicId), node }];
  }
  if (type !== SRAT_TYPE.localX2apic || !(view.getUint32(SRAT_LOCAL_X2APIC.flags, true) & SRAT_ENABLED))
    return [];
  const apicId = view.getUint32(SRAT_LOCAL_X2APIC.apicId, true);
  return [{ apicId, node: view.getUint32(SRAT_LOCAL_X2APIC.domain, true) }];
}

function readMemory({ type, view }: Entry): SratContents['memory'] {
  if (type !== SRAT_TYPE.memory || !(view.getUint32(SRAT_MEMORY.flags, true) & SRAT_ENABLED)) return [];
  const [address, bytes] = [getU64(view, SRAT_MEMORY.base), getU64(view, SRAT_MEMORY.bytes)];
  return [{ address, bytes, node: view.getUint32(SRAT_MEMORY.domain, true) }];
}

/** `distances[from][to]`; undefined if the matrix is truncated. `table` has at least SLIT.size bytes. */
export function readSlit(table: Uint8Array, problems: string[]): number[][] | undefined {
  const localities = getU64(viewOf(table), SLIT.localities);
  const bytes = table.length - SLIT.size;
  if (localities * localities !== bytes) {
    problems.push(
      `SLIT: ${bytes} bytes of distances for ${localities} nodes (expected ${localities * localities})`,
    );
    return undefined;
  }
  const distances = Array.from({ length: localities }, (_, from) => [
    ...table.subarray(SLIT.size + from * localities, SLIT.size + (from + 1) * localities),
  ]);
  distances.forEach((row, from) =>
    row.forEach((distance, to) => {
      if (from === to && distance !== SLIT_LOCAL)
        problems.push(
          `SLIT: the distance from node ${from} to itself is ${distance} (expected ${SLIT_LOCAL})`,
        );
      if (from !== to && distance < SLIT_LOCAL)
        problems.push(
          `SLIT: the distance from node ${from} to node ${to} is ${distance} (expected ${SLIT_LOCAL} or more)`,
        );
    }),
  );
  return distances;
}
