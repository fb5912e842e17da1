/**
 * Names of model-specific registers that KVM saves. (Intel SDM 4, chapter 2; AMD APM 2, appendix A; Linux
 * Documentation/virt/kvm/x86/msr.rst)
 */
const NAMES: Readonly<Record<number, string>> = {
  0x10: 'IA32_TSC',
  0x11: 'KVM_WALL_CLOCK',
  0x12: 'KVM_SYSTEM_TIME',
  0x1b: 'IA32_APIC_BASE',
  0x34: 'SMI_COUNT',
  0x3a: 'IA32_FEATURE_CONTROL',
  0x3b: 'IA32_TSC_ADJUST',
  0x48: 'IA32_SPEC_CTRL',
  0x49: 'IA32_PRED_CMD',
  0x8b: 'IA32_BIOS_SIGN_ID',
  0x9e: 'IA32_SMBASE',
  0xce: 'PLATFORM_INFO',
  0xe1: 'IA32_UMWAIT_CONTROL',
  0x10a: 'IA32_ARCH_CAPABILITIES',
  0x10b: 'IA32_FLUSH_CMD',
  0x122: 'IA32_TSX_CTRL',
  0x140: 'MISC_FEATURES_ENABLES',
  0x174: 'IA32_SYSENTER_CS',
  0x175: 'IA32_SYSENTER_ESP',
  0x176: 'IA32_SYSENTER_EIP',
  0x179: 'IA32_MCG_CAP',
  0x17a: 'IA32_MCG_STATUS',
  0x17b: 'IA32_MCG_CTL',
  0x198: 'IA32_PERF_STATUS',
  0x1a0: 'IA32_MISC_ENABLE',
  0x1c4: 'IA32_XFD',
  0x1c5: 'IA32_XFD_ERR',
  0x1d9: 'IA32_DEBUGCTL',
  0x250: 'IA32_MTRR_FIX64K_00000',
  0x258: 'IA32_MTRR_FIX16K_80000',
  0x259: 'IA32_MTRR_FIX16K_A0000',
  0x277: 'IA32_PAT',
  0x2ff: 'IA32_MTRR_DEF_TYPE',
  0x345: 'IA32_PERF_CAPABILITIES',
  0x38d: 'IA32_FIXED_CTR_CTRL',
  0x38e: 'IA32_PERF_GLOBAL_STATUS',
  0x38f: 'IA32_PERF_GLOBAL_CTRL',
  0x390: 'IA32_PERF_GLOBAL_OVF_CTRL',
  0x3f1: 'IA32_PEBS_ENABLE',
  0x3f2: 'MSR_PEBS_DATA_CFG',
  0x4d0: 'IA32_MCG_EXT_CTL',
  0x570: 'IA32_RTIT_CTL',
  0x571: 'IA32_RTIT_STATUS',
  0x572: 'IA32_RTIT_CR3_MATCH',
  0x560: 'IA32_RTIT_OUTPUT_BASE',
  0x561: 'IA32_RTIT_OUTPUT_MASK_PTRS',
  0x600: 'IA32_DS_AREA',
  0x6a0: 'IA32_U_CET',
  0x6a2: 'IA32_S_CET',
  0x6a4: 'IA32_PL0_SSP',
  0x6a5: 'IA32_PL1_SSP',
  0x6a6: 'IA32_PL2_SSP',
  0x6a7: 'IA32_PL3_SSP',
  0x6a8: 'IA32_INTERRUPT_SSP_TABLE_ADDR',
  0x6e0: 'IA32_TSC_DEADLINE',
  0xd90: 'IA32_BNDCFGS',
  0xda0: 'IA32_XSS',
  0x4b56_4d00: 'KVM_WALL_CLOCK_NEW',
  0x4b56_4d01: 'KVM_SYSTEM_TIME_NEW',
  0x4b56_4d02: 'KVM_ASYNC_PF_EN',
  0x4b56_4d03: 'KVM_STEAL_TIME',
  0x4b56_4d04: 'KVM_PV_EOI_EN',
  0x4b56_4d05: 'KVM_POLL_CONTROL',
  0x4b56_4d06: 'KVM_ASYNC_PF_INT',
  0x4b56_4d07: 'KVM_ASYNC_PF_ACK',
  0x4b56_4d08: 'KVM_MIGRATION_CONTROL',
  0x4000_0000: 'HV_GUEST_OS_ID',
  0x4000_0001: 'HV_HYPERCALL',
  0x4000_0002: 'HV_VP_INDEX',
  0x4000_0020: 'HV_TIME_REF_COUNT',
  0x4000_0021: 'HV_REFERENCE_TSC',
  0x4000_0022: 'HV_TSC_FREQUENCY',
  0x4000_0023: 'HV_APIC_FREQUENCY',
  0x4000_0073: 'HV_VP_ASSIST_PAGE',
  0xc000_0080: 'EFER',
  0xc000_0081: 'STAR',
  0xc000_0082: 'LSTAR',
  0xc000_0083: 'CSTAR',
  0xc000_0084: 'SFMASK',
  0xc000_0100: 'FS_BASE',
  0xc000_0101: 'GS_BASE',
  0xc000_0102: 'KERNEL_GS_BASE',
  0xc000_0103: 'TSC_AUX',
  0xc000_0104: 'TSC_RATIO',
  0xc000_0300: 'PERF_CNTR_GLOBAL_STATUS',
  0xc000_0301: 'PERF_CNTR_GLOBAL_CTL',
  0xc000_0302: 'PERF_CNTR_GLOBAL_STATUS_CLR',
  0xc001_0010: 'SYSCFG',
  0xc001_0015: 'HWCR',
  0xc001_001f: 'NB_CFG',
  0xc001_0114: 'VM_CR',
  0xc001_0117: 'VM_HSAVE_PA',
  0xc001_011f: 'VIRT_SPEC_CTRL',
  0xc001_0140: 'OSVW_ID_LENGTH',
  0xc001_0141: 'OSVW_STATUS',
  0xc001_1029: 'DE_CFG',
};

/** Registers of which there are several: the first index, the count, and the name with the number for `#`. */
const FAMILIES: readonly (readonly [first: number, count: number, name: string])[] = [
  [0xc1, 8, 'IA32_PMC#'],
  [0x186, 8, 'IA32_PERFEVTSEL#'],
  [0x268, 8, 'IA32_MTRR_FIX4K_#'],
  [0x280, 32, 'IA32_MC#_CTL2'],
  [0x309, 4, 'IA32_FIXED_CTR#'],
  [0x480, 18, 'IA32_VMX_CAPABILITY#'],
  [0x4c1, 8, 'IA32_A_PMC#'],
  [0x580, 8, 'IA32_RTIT_ADDR#'],
  [0x800, 0x100, 'X2APIC_#'],
  [0x4000_0080, 0x20, 'HV_SYNIC#'],
  [0x4000_00b0, 8, 'HV_STIMER#'],
  [0xc001_0000, 4, 'PERF_LEGACY_CTL#'],
  [0xc001_0004, 4, 'PERF_LEGACY_CTR#'],
];
const MTRR_FIRST = 0x200;
const MTRR_COUNT = 16;
const MCE_BANKS_FIRST = 0x400;
const MCE_BANKS = 32;
const MCE_REGISTERS = ['CTL', 'STATUS', 'ADDR', 'MISC'];
const PERF_FIRST = 0xc001_0200;
const PERF_COUNT = 12;

/** `IA32_PAT`, or `0x1234` for one that has no name here. */
export function msrName(index: number): string {
  const name = NAMES[index];
  if (name !== undefined) return name;
  const offset = (first: number, count: number) =>
    index >= first && index < first + count ? index - first : undefined;
  const mtrr = offset(MTRR_FIRST, MTRR_COUNT);
  if (mtrr !== undefined) return `IA32_MTRR_PHYS${mtrr % 2 === 0 ? 'BASE' : 'MASK'}${mtrr >> 1}`;
  const bank = offset(MCE_BANKS_FIRST, MCE_BANKS * 4);
  if (bank !== undefined) return `IA32_MC${bank >> 2}_${MCE_REGISTERS[bank & 3]}`;
  const counter = offset(PERF_FIRST, PERF_COUNT);
  if (counter !== undefined) return `PERF_${counter % 2 === 0 ? 'CTL' : 'CTR'}${counter >> 1}`;
  for (const [first, count, pattern] of FAMILIES) {
    const number = offset(first, count);
    if (number !== undefined) return pattern.replace('#', String(number));
  }
  return `0x${index.toString(16)}`;
}
