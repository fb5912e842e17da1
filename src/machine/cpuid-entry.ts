/** One CPUID leaf (and subleaf, where `flags` bit 0 says that `index` counts). All u32. */
export interface CpuidEntry {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
