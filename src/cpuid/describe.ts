/** Decodes the topology in a CPUID table, for `volt inspect`. */
import { bitsOf } from '../binary/bits.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { DOMAIN, findLeaf, isAmd, LEAF, vendorOf } from './leaf.ts';

/** A subleaf of leaf 0x1F or 0xB. */
export interface CpuidLevel {
  readonly type: string;
  readonly shift: number;
  /** Capacity of the domain. */
  readonly logicalProcessors: number;
}

export interface CpuidDescription {
  readonly vendor: string;
  readonly initialApicId: number;
  /** Leaf 1, EBX bits 23–16. */
  readonly logicalProcessors: number;
  readonly htt: boolean;
  readonly tscDeadline: boolean;
  readonly x2apicId: number | undefined;
  readonly levels: readonly CpuidLevel[];
  /**
   * From leaf 4 or 0x8000001D: `sharedBy` is the maximum number of logical processor ids that share the
   * cache.
   */
  readonly caches: readonly { readonly level: number; readonly sharedBy: number }[];
}

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  [DOMAIN.thread]: 'SMT',
  [DOMAIN.core]: 'core',
  [DOMAIN.module]: 'module',
  [DOMAIN.tile]: 'tile',
  [DOMAIN.die]: 'die',
};

export function describeCpuid(table: readonly CpuidEntry[]): CpuidDescription {
  const features = findLeaf(table, LEAF.features);
  const topologyLeaf = findLeaf(table, LEAF.extendedTopologyV2)
    ? LEAF.extendedTopologyV2
    : LEAF.extendedTopology;
  const subleaves = table.filter((entry) => entry.function === topologyLeaf);
  const caches = table.filter((entry) => entry.function === (isAmd(table) ? LEAF.amdCaches : LEAF.caches));
  return {
    vendor: vendorOf(table),
    initialApicId: bitsOf(features?.ebx ?? 0, 31, 24),
    logicalProcessors: bitsOf(features?.ebx ?? 0, 23, 16),
    htt: bitsOf(features?.edx ?? 0, 28, 28) === 1,
    tscDeadline: bitsOf(features?.ecx ?? 0, 24, 24) === 1,
    x2apicId: subleaves[0]?.edx,
    levels: subleaves
      .filter((entry) => bitsOf(entry.ecx, 15, 8) !== 0)
      .map((entry) => ({
        type: LEVEL_NAMES[bitsOf(entry.ecx, 15, 8)] ?? `type ${bitsOf(entry.ecx, 15, 8)}`,
        shift: bitsOf(entry.eax, 4, 0),
        logicalProcessors: bitsOf(entry.ebx, 15, 0),
      })),
    caches: caches
      .filter((entry) => bitsOf(entry.eax, 4, 0) !== 0)
      .map((entry) => ({ level: bitsOf(entry.eax, 7, 5), sharedBy: bitsOf(entry.eax, 25, 14) + 1 })),
  };
}
