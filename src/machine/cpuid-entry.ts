/**
 * One CPUID leaf, or a subleaf if bit 0 of `flags` is set (KVM_CPUID_FLAG_SIGNIFCANT_INDEX); `index` is then
 * its ECX input. All u32. (KVM api.rst, KVM_GET_SUPPORTED_CPUID)
 */
export interface CpuidEntry {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
