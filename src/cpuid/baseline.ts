/**
 * A small CPUID table to plan with where no KVM is asked: only the leaves that Volt rewrites, as a typical CPU of
 * the vendor has them before that.
 */
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { INDEXED, type Registers } from './leaf.ts';

export type CpuVendor = 'GenuineIntel' | 'AuthenticAMD';

/** EAX bits 4–0 of leaves 4 and 0x8000001D: data, instruction and unified caches; level in bits 7–5. */
const CACHES = [0x21, 0x22, 0x43, 0x63].map((eax) => ({ eax: 0x100 | eax, ebx: 0, ecx: 0, edx: 0 }));

export function baselineCpuid(vendor: CpuVendor): CpuidEntry[] {
  const [ebx, edx, ecx] = vendorWords(vendor);
  const leaf = (id: number, registers: Partial<Registers>, index = 0, flags = 0): CpuidEntry => ({
    function: id,
    index,
    flags,
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
    ...registers,
  });
  const caches = (id: number) => CACHES.map((registers, index) => leaf(id, registers, index, INDEXED));
  const kvm = [leaf(0x4000_0000, { eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d })];
  if (vendor === 'GenuineIntel') {
    return [
      leaf(0, { eax: 0x1f, ebx, ecx, edx }),
      leaf(1, {}),
      ...caches(4),
      ...kvm,
      leaf(0x8000_0000, { eax: 0x8000_0008 }),
    ];
  }
  return [
    leaf(0, { eax: 0x10, ebx, ecx, edx }),
    leaf(1, {}),
    ...kvm,
    leaf(0x8000_0000, { eax: 0x8000_001e, ebx, ecx, edx }),
    leaf(0x8000_0001, {}),
    leaf(0x8000_0008, {}),
    ...caches(0x8000_001d),
    leaf(0x8000_001e, {}),
  ];
}

/** The twelve letters in the order EBX, EDX, ECX. */
function vendorWords(vendor: CpuVendor): [number, number, number] {
  const word = (at: number) =>
    [0, 1, 2, 3].reduce((value, i) => (value | (vendor.charCodeAt(at + i) << (8 * i))) >>> 0, 0);
  return [word(0), word(4), word(8)];
}
