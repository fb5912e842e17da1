/**
 * Names of CPU features by CPUID leaf, register and bit. They are those of Linux's /proc/cpuinfo where it has one
 * (arch/x86/include/asm/cpufeatures.h); the others are the manuals' names in lower case.
 *
 * Sources: Intel SDM 2A, "CPUID"; AMD APM volume 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
import type { Registers } from './leaf.ts';

export type RegisterName = keyof Registers;

/** A register of which each bit is a feature, or reserved. */
export interface FeatureRegister {
  readonly leaf: number;
  readonly index: number;
  readonly register: RegisterName;
  /** By bit; undefined for bits that are reserved or unknown here. */
  readonly names: readonly (string | undefined)[];
}

/** `words`: the names from bit 0 on; `-` stands for a bit without a name, `-N` for N of them. */
function features(leaf: number, index: number, register: RegisterName, words: string): FeatureRegister {
  const names = words.split(' ').flatMap((word) => {
    const skipped = /^-(\d*)$/.exec(word);
    if (!skipped) return [word];
    return Array<string | undefined>(Number(skipped[1] || 1)).fill(undefined);
  });
  return { leaf, index, register, names };
}

export const FEATURE_REGISTERS: readonly FeatureRegister[] = [
  features(
    0x1,
    0,
    'ecx',
    'pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor',
  ),
  features(
    0x1,
    0,
    'edx',
    'fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe',
  ),
  features(0x6, 0, 'eax', 'dtherm ida arat'),
  features(
    0x7,
    0,
    'ebx',
    'fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl',
  ),
  features(
    0x7,
    0,
    'ecx',
    'prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 -5 rdpid kl bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks',
  ),
  features(
    0x7,
    0,
    'edx',
    '- sgx_keys avx512_4vnniw avx512_4fmaps fsrm uintr -2 avx512_vp2intersect srbds_ctrl md_clear rtm_always_abort - tsx_force_abort serialize hybrid_cpu tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities spec_ctrl_ssbd',
  ),
  features(
    0x7,
    1,
    'eax',
    'sha512 sm3 sm4 rao_int avx_vnni avx512_bf16 lass cmpccxadd archperfmonext - fzrm fsrs fsrc -4 fred lkgs wrmsrns nmi_src amx_fp16 hreset avx_ifma -2 lam msrlist -3 movrs',
  ),
  features(
    0x7,
    1,
    'edx',
    '-4 avx_vnni_int8 avx_ne_convert -2 amx_complex - avx_vnni_int16 -3 prefetchi user_msr -2 cet_sss avx10 - apx_f',
  ),
  features(0x7, 2, 'edx', 'intel_psfd ipred_ctrl rrsba_ctrl ddpd_u bhi_ctrl mcdt_no'),
  features(
    0xd,
    0,
    'eax',
    'x87_state sse_state avx_state bndregs_state bndcsr_state opmask_state zmm_hi256_state hi16_zmm_state - pkru_state -7 xtilecfg_state xtiledata_state apx_state',
  ),
  features(0xd, 1, 'eax', 'xsaveopt xsavec xgetbv1 xsaves xfd'),
  features(
    0xd,
    1,
    'ecx',
    '-8 pt_state - pasid_state cet_user_state cet_kernel_state hdc_state uintr_state lbr_state hwp_state',
  ),
  features(
    0x8000_0001,
    0,
    'ecx',
    'lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx',
  ),
  features(
    0x8000_0001,
    0,
    'edx',
    '-11 syscall -7 mp nx - mmxext -2 fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow',
  ),
  features(0x8000_0007, 0, 'ebx', 'overflow_recov succor - smca'),
  features(0x8000_0007, 0, 'edx', '-8 invariant_tsc'),
  features(
    0x8000_0008,
    0,
    'ebx',
    'clzero irperf xsaveerptr invlpgb rdpru -4 wbnoinvd -2 ibpb - ibrs stibp ibrs_always_on stibp_always_on ibrs_preferred ibrs_same_mode no_efer_lmsle -2 ppin amd_ssbd virt_ssbd amd_ssb_no cppc amd_psfd btc_no ibpb_ret',
  ),
  features(
    0x8000_000a,
    0,
    'edx',
    'npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists -2 pausefilter - pfthreshold avic - v_vmsave_vmload vgif gmet x2avic - v_spec_ctrl -4 vnmi',
  ),
  features(
    0x8000_0021,
    0,
    'eax',
    'no_nested_data_bp - lfence_rdtsc -3 null_sel_clr_base - autoibrs no_smm_ctl_msr -10 prefetchi -6 sbpb ibpb_brtype srso_no',
  ),
  features(0x8000_0022, 0, 'eax', 'perfmon_v2'),
  features(
    0x4000_0001,
    0,
    'eax',
    'kvmclock kvm_nopiodelay kvm_mmu kvmclock2 kvm_asyncpf kvm_steal_time kvm_pv_eoi kvm_pv_unhalt - kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_ipi kvm_poll_control kvm_pv_sched_yield kvm_asyncpf_int kvm_msi_ext_dest_id kvm_hc_map_gpa_range kvm_migration_control -6 kvmclock_stable',
  ),
] as const;

/** The feature's name, or `bit 15`. */
export function featureName({ names }: FeatureRegister, bit: number): string {
  return names[bit] ?? `bit ${bit}`;
}

/** State components of XSAVE by number, those of XCR0 and those of IA32_XSS. (Intel SDM 1 §13.1) */
export const XSAVE_COMPONENTS: readonly (string | undefined)[] = [
  ...['x87', 'SSE', 'AVX', 'BNDREGS', 'BNDCSR', 'opmask', 'ZMM_Hi256', 'Hi16_ZMM', 'PT', 'PKRU', 'PASID'],
  ...['CET_U', 'CET_S', 'HDC', 'UINTR', 'LBR', 'HWP', 'XTILECFG', 'XTILEDATA', 'APX'],
];
