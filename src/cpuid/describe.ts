/** What a CPUID table tells its CPU about topology, read back for `volt inspect`. */
import { bitsOf } from '../binary/bits.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { findLeaf, isAmd, vendorOf } from './leaf.ts';

export interface CpuidLevel {
  readonly type: string;
  readonly shift: number;
  readonly logicalProcessors: number;
}

export interface CpuidDescription {
  readonly vendor: string;
  readonly initialApicId: number;
  readonly logicalProcessors: number;
  readonly htt: boolean;
  readonly tscDeadline: boolean;
  readonly x2apicId: number | undefined;
  readonly levels: readonly CpuidLevel[];
  /** Leaf 4 or 0x8000001D: level, and how many logical processor ids share the cache. */
  readonly caches: readonly { readonly level: number; readonly sharedBy: number }[];
}

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  1: 'SMT',
  2: 'core',
  3: 'module',
  4: 'tile',
  5: 'die',
};

export function describeCpuid(table: readonly CpuidEntry[]): CpuidDescription {
  const features = findLeaf(table, 1);
  const topologyLeaf = findLeaf(table, 0x1f) ? 0x1f : 0xb;
  const subleaves = table.filter((entry) => entry.function === topologyLeaf);
  const caches = table.filter((entry) => entry.function === (isAmd(table) ? 0x8000_001d : 4));
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
