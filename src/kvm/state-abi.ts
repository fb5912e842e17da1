/**
 * The part of KVM's ABI that saving and restoring a machine needs: ioctl numbers and structure layouts. Apart
 * from `abi.ts`, because an ordinary run does not load it. (Linux include/uapi/linux/kvm.h,
 * arch/x86/include/uapi/asm/kvm.h; Documentation/virt/kvm/api.rst)
 */
import { CPUID2, MSRS, READ, WRITE, ioc } from './abi.ts';

/** `struct kvm_sregs2`: `struct kvm_sregs` up to the interrupt bitmap, in whose place are these. */
export const SREGS2 = { flags: 0x118, pdptrs: 0x120, size: 0x140 } as const;

/** `struct kvm_xsave` without components that must be enabled first; KVM_CAP_XSAVE2 gives the size with them. */
export const XSAVE_BYTES = 0x1000;

/** `struct kvm_xcrs` */
export const XCRS = { nrXcrs: 0x00, flags: 0x04, xcrs: 0x08, size: 0x188 } as const;
/** `struct kvm_xcr` */
export const XCR = { xcr: 0x00, reserved: 0x04, value: 0x08, size: 0x10 } as const;

/** `struct kvm_debugregs` */
export const DEBUG_REGS = { db: 0x00, dr6: 0x20, dr7: 0x28, flags: 0x30, size: 0x80 } as const;

/** `struct kvm_clock_data`; `host_tsc` and `realtime` are valid with their flags. */
export const CLOCK_DATA = { clock: 0x00, flags: 0x08, realtime: 0x10, hostTsc: 0x18, size: 0x30 } as const;
export const CLOCK_FLAG = { tscStable: 2, realtime: 4, hostTsc: 8 } as const;

/** `struct kvm_irqchip` */
export const IRQCHIP = { chipId: 0x00, chip: 0x08, size: 0x208 } as const;
export const IRQCHIP_ID = { picMaster: 0, picSlave: 1, ioapic: 2 } as const;

/** `struct kvm_msr_list`, whose u32 indices follow the header. */
export const MSR_LIST = { nmsrs: 0x00, size: 0x04 } as const;

/** `struct kvm_nested_state`, which data of the format follows. */
export const NESTED_STATE = {
  flags: 0x00,
  format: 0x02,
  bytes: 0x04,
  /** `hdr.vmx.vmxon_pa`: all ones outside of VMX operation. */
  vmxonPa: 0x08,
  size: 0x80,
} as const;
export const NESTED_FORMAT = { vmx: 0, svm: 1 } as const;

/** `struct kvm_device_attr` */
export const DEVICE_ATTR = { flags: 0x00, group: 0x04, attr: 0x08, addr: 0x10, size: 0x18 } as const;
/** Group and attribute of a vCPU: what KVM adds to the host's TSC, after scaling, for the guest's. */
export const TSC_OFFSET = { group: 0, attr: 0 } as const;

/** Fields of `struct kvm_vcpu_events` that KVM_SET_VCPU_EVENTS sets only with the flag. */
export const VCPU_EVENT_FLAG = {
  nmiPending: 1,
  sipiVector: 2,
  shadow: 4,
  smm: 8,
  payload: 0x10,
  tripleFault: 0x20,
} as const;

/** KVM_CAP_* */
export const STATE_CAP = {
  xsave: 55,
  xcrs: 56,
  tscControl: 60,
  vcpuAttributes: 127,
  nestedState: 157,
  sregs2: 200,
  xsave2: 208,
} as const;

export const STATE_IOCTL = {
  getMsrIndexList: ioc(READ | WRITE, 0x02, MSR_LIST.size),
  getIrqchip: ioc(READ | WRITE, 0x62, IRQCHIP.size),
  /** Its number says that KVM writes the argument; KVM reads it. */
  setIrqchip: ioc(READ, 0x63, IRQCHIP.size),
  setClock: ioc(WRITE, 0x7b, CLOCK_DATA.size),
  getClock: ioc(READ, 0x7c, CLOCK_DATA.size),
  getMsrs: ioc(READ | WRITE, 0x88, MSRS.size),
  getFpu: ioc(READ, 0x8c, 0x1a0),
  getCpuid2: ioc(READ | WRITE, 0x91, CPUID2.size),
  getDebugRegs: ioc(READ, 0xa1, DEBUG_REGS.size),
  setDebugRegs: ioc(WRITE, 0xa2, DEBUG_REGS.size),
  setTscKhz: ioc(0, 0xa2, 0),
  getXsave: ioc(READ, 0xa4, XSAVE_BYTES),
  setXsave: ioc(WRITE, 0xa5, XSAVE_BYTES),
  getXcrs: ioc(READ, 0xa6, XCRS.size),
  setXcrs: ioc(WRITE, 0xa7, XCRS.size),
  getNestedState: ioc(READ | WRITE, 0xbe, NESTED_STATE.size),
  setNestedState: ioc(WRITE, 0xbf, NESTED_STATE.size),
  getSregs2: ioc(READ, 0xcc, SREGS2.size),
  setSregs2: ioc(WRITE, 0xcd, SREGS2.size),
  getXsave2: ioc(READ, 0xcf, XSAVE_BYTES),
  setDeviceAttribute: ioc(WRITE, 0xe1, DEVICE_ATTR.size),
  getDeviceAttribute: ioc(WRITE, 0xe2, DEVICE_ATTR.size),
} as const;

/** MSRs that saving and restoring treats by name. (Intel SDM 4 table 2-2) */
export const STATE_MSR = {
  ia32Tsc: 0x10,
  ia32FeatureControl: 0x3a,
  ia32McgCap: 0x179,
  ia32DebugCtl: 0x1d9,
  ia32MtrrPhysBase0: 0x200,
  ia32MtrrFix64k: 0x250,
  ia32MtrrFix16k: 0x258,
  ia32MtrrFix4k: 0x268,
  ia32Mc0Ctl2: 0x280,
  ia32MtrrDefType: 0x2ff,
  ia32Mc0Ctl: 0x400,
  ia32TscDeadline: 0x6e0,
  ia32Xss: 0xda0,
} as const;
