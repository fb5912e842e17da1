/**
 * A minimal CPUID table for `volt inspect`, which does not ask KVM: only the leaves that Volt rewrites, with
 * the values of a typical CPU of the vendor.
 */
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { INDEXED, LEAF, type Registers } from './leaf.ts';

export type CpuVendor = 'GenuineIntel' | 'AuthenticAMD';

/**
 * EAX of leaves 4 and 0x8000001D: L1 data, L1 instruction, L2 and L3 unified (bits 4–0 type, 7–5 level, 8
 * self-initializing).
 */
const CACHES = [0x21, 0x22, 0x43, 0x63].map((eax) => ({ eax: 0x100 | eax, ebx: 0, ecx: 0, edx: 0 }));

/** "KVMKVMKVM\0\0\0" */
const KVM_SIGNATURE = { ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d } as const;

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
  const kvm = [leaf(LEAF.hypervisor, { eax: 0x4000_0001, ...KVM_SIGNATURE })];
  if (vendor === 'GenuineIntel') {
    return [
      leaf(LEAF.basic, { eax: LEAF.extendedTopologyV2, ebx, ecx, edx }),
      leaf(LEAF.features, {}),
      ...caches(LEAF.caches),
      ...kvm,
      leaf(LEAF.extendedBasic, { eax: LEAF.amdSizes }),
    ];
  }
  return [
    leaf(LEAF.basic, { eax: 0x10, ebx, ecx, edx }),
    leaf(LEAF.features, {}),
    ...kvm,
    leaf(LEAF.extendedBasic, { eax: LEAF.amdTopology, ebx, ecx, edx }),
    leaf(LEAF.amdFeatures, {}),
    leaf(LEAF.amdSizes, {}),
    ...caches(LEAF.amdCaches),
    leaf(LEAF.amdTopology, {}),
  ];
}

/** The vendor's twelve letters, in EBX, EDX and ECX. */
function vendorWords(vendor: CpuVendor): [number, number, number] {
  const word = (at: number) =>
    [0, 1, 2, 3].reduce((value, i) => (value | (vendor.charCodeAt(at + i) << (8 * i))) >>> 0, 0);
  return [word(0), word(4), word(8)];
}
