/**
 * Finds and replaces leaves of a CPUID table. Tables are never changed in place.
 * (Intel SDM 2A, "CPUID"; AMD APM volume 3, appendix E)
 */
import type { CpuidEntry } from '../machine/cpuid-entry.ts';

/** CpuidEntry.flags bit 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has subleaves, and `index` is one. */
export const INDEXED = 1;

export const LEAF = {
  basic: 0x0,
  features: 0x1,
  caches: 0x4,
  extendedTopology: 0xb,
  extendedTopologyV2: 0x1f,
  /** Highest hypervisor leaf and signature. (Linux Documentation/virt/kvm/x86/cpuid.rst) */
  hypervisor: 0x4000_0000,
  hypervisorTiming: 0x4000_0010,
  extendedBasic: 0x8000_0000,
  amdFeatures: 0x8000_0001,
  amdSizes: 0x8000_0008,
  amdCaches: 0x8000_001d,
  amdTopology: 0x8000_001e,
} as const;

/** Domain types of leaves 0xB and 0x1F, ECX bits 15–8. */
export const DOMAIN = { thread: 1, core: 2, module: 3, tile: 4, die: 5 } as const;

export type Registers = Pick<CpuidEntry, 'eax' | 'ebx' | 'ecx' | 'edx'>;

export function findLeaf(table: readonly CpuidEntry[], leaf: number, index = 0): CpuidEntry | undefined {
  return table.find((entry) => entry.function === leaf && entry.index === index);
}

/** Applies `change` to every entry of `leaf`, in all subleaves. */
export function mapLeaf(
  table: readonly CpuidEntry[],
  leaf: number,
  change: (entry: CpuidEntry) => Partial<Registers>,
): CpuidEntry[] {
  return table.map((entry) => (entry.function === leaf ? { ...entry, ...change(entry) } : entry));
}

/** Replaces all entries of `leaf` by `subleaves`, numbered from 0. */
export function replaceLeaf(
  table: readonly CpuidEntry[],
  leaf: number,
  subleaves: readonly Registers[],
  flags: 0 | typeof INDEXED,
): CpuidEntry[] {
  const kept = table.filter((entry) => entry.function !== leaf);
  return [...kept, ...subleaves.map((registers, index) => ({ function: leaf, index, flags, ...registers }))];
}

/** `GenuineIntel`, `AuthenticAMD`, … from leaf 0; '' without that leaf. */
export function vendorOf(table: readonly CpuidEntry[]): string {
  const leaf = findLeaf(table, LEAF.basic);
  if (!leaf) return '';
  const bytes = [leaf.ebx, leaf.edx, leaf.ecx].flatMap((word) =>
    [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff),
  );
  return String.fromCharCode(...bytes);
}

export function isAmd(table: readonly CpuidEntry[]): boolean {
  const vendor = vendorOf(table);
  return vendor === 'AuthenticAMD' || vendor === 'HygonGenuine';
}
