/** Finding and replacing leaves in a CPUID table. Tables are never changed in place. */
import type { CpuidEntry } from '../machine/cpuid-entry.ts';

/** CpuidEntry.flags bit 0: the subleaf in `index` counts. */
export const INDEXED = 1;

export type Registers = Pick<CpuidEntry, 'eax' | 'ebx' | 'ecx' | 'edx'>;

export function findLeaf(table: readonly CpuidEntry[], leaf: number, index = 0): CpuidEntry | undefined {
  return table.find((entry) => entry.function === leaf && entry.index === index);
}

/** `table` with `change` applied to every entry of `leaf`, whatever its subleaf. */
export function mapLeaf(
  table: readonly CpuidEntry[],
  leaf: number,
  change: (entry: CpuidEntry) => Partial<Registers>,
): CpuidEntry[] {
  return table.map((entry) => (entry.function === leaf ? { ...entry, ...change(entry) } : entry));
}

/** `table` with all entries of `leaf` replaced by `subleaves`; several, or an indexed leaf, make it indexed. */
export function replaceLeaf(
  table: readonly CpuidEntry[],
  leaf: number,
  subleaves: readonly Registers[],
  flags: 0 | typeof INDEXED,
): CpuidEntry[] {
  const kept = table.filter((entry) => entry.function !== leaf);
  return [...kept, ...subleaves.map((registers, index) => ({ function: leaf, index, flags, ...registers }))];
}

/** `GenuineIntel`, `AuthenticAMD`, … from leaf 0, or '' without one. */
export function vendorOf(table: readonly CpuidEntry[]): string {
  const leaf = findLeaf(table, 0);
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
