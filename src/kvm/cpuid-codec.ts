/** Encoding and decoding of `struct kvm_cpuid2`. (api.rst, KVM_SET_CPUID2) */
import { viewOf } from '../binary/bytes.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { CPUID2, CPUID_ENTRY } from './abi.ts';

const FIELDS = ['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx'] as const;

/** The header and its entries, for KVM_SET_CPUID2. */
export function encodeCpuid(entries: readonly CpuidEntry[]): Uint8Array {
  const buffer = new Uint8Array(CPUID2.size + entries.length * CPUID_ENTRY.size);
  const view = viewOf(buffer);
  view.setUint32(CPUID2.nent, entries.length, true);
  entries.forEach((entry, i) => putCpuidEntry(view, i, entry));
  return buffer;
}

/** Overwrites entry `i` of an encoded table. */
export function putCpuidEntry(view: DataView, i: number, entry: CpuidEntry): void {
  const at = CPUID2.size + i * CPUID_ENTRY.size;
  for (const field of FIELDS) view.setUint32(at + CPUID_ENTRY[field], entry[field], true);
}

/** The `nent` entries of a table that KVM has filled in. RangeError when the buffer is shorter. */
export function decodeCpuid(buffer: Uint8Array): CpuidEntry[] {
  const view = viewOf(buffer);
  const count = view.getUint32(CPUID2.nent, true);
  return Array.from({ length: count }, (_, i) => {
    const at = CPUID2.size + i * CPUID_ENTRY.size;
    const u32 = (field: (typeof FIELDS)[number]) => view.getUint32(at + CPUID_ENTRY[field], true);
    return {
      function: u32('function'),
      index: u32('index'),
      flags: u32('flags'),
      eax: u32('eax'),
      ebx: u32('ebx'),
      ecx: u32('ecx'),
      edx: u32('edx'),
    };
  });
}
