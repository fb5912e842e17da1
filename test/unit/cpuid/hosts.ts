/** Recorded hosts and what tests ask of them. */
import { buildCpuid, type CpuidInputs } from '../../../src/cpuid/build-cpuid.ts';
import type { CpuidEntry } from '../../../src/machine/cpuid-entry.ts';
import { placeCpus, topologyShifts, type CpuPlacement, type Topology } from '../../../src/smp/topology.ts';
import { readCpuidVector } from '../support/vectors.ts';

export const AMD = readCpuidVector('cpuid/amd-epyc.txt');
export const INTEL = readCpuidVector('cpuid/intel-xeon-w9-3475x.txt');

export interface Guest {
  readonly cpu: CpuPlacement;
  readonly table: readonly CpuidEntry[];
}

/** The CPUID table of each CPU of a topology, or of those at `indexes`. */
export function guestsOf(
  host: readonly CpuidEntry[],
  topology: Topology,
  options: { indexes?: readonly number[]; changes?: Partial<CpuidInputs> } = {},
): Guest[] {
  const shifts = topologyShifts(topology);
  const all = placeCpus(topology);
  const chosen = options.indexes?.map((index) => all[index]!) ?? all;
  return chosen.map((cpu) => ({
    cpu,
    table: buildCpuid({
      host,
      placement: cpu,
      topology: { ...topology, shifts },
      tscDeadline: true,
      tscKhz: 0,
      ...options.changes,
    }),
  }));
}

export function leaf(table: readonly CpuidEntry[], number: number, index = 0): CpuidEntry {
  const entry = table.find((each) => each.function === number && each.index === index);
  return entry ?? { function: number, index, flags: 0, eax: NaN, ebx: NaN, ecx: NaN, edx: NaN };
}

export function subleaves(table: readonly CpuidEntry[], number: number): CpuidEntry[] {
  return table.filter((each) => each.function === number);
}

/** Bits `high` to `low`, counted without the code under test. */
export function field(value: number, high: number, low: number): number {
  return Number((BigInt(value) >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n));
}

/**
 * What Linux's detect_extended_topology makes of leaf 0xB or 0x1F: the shift of each domain by its type, and from
 * them the ids of core and socket. (arch/x86/kernel/cpu/topology.c)
 */
export function placeByLeaf(table: readonly CpuidEntry[], number: number) {
  const levels = subleaves(table, number).filter((each) => field(each.ecx, 15, 8) !== 0);
  const id = levels[0]!.edx;
  const threadShift = field(levels[0]!.eax, 4, 0);
  const socketShift = field(levels.at(-1)!.eax, 4, 0);
  return {
    apicId: id,
    socket: Math.floor(id / 2 ** socketShift),
    coreInSocket: Math.floor((id % 2 ** socketShift) / 2 ** threadShift),
    thread: id % 2 ** threadShift,
  };
}
