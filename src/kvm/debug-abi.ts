/**
 * The part of KVM's ABI that a debugger needs. Apart from `abi.ts`, because an ordinary run does not load it.
 * (Linux include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h; api.rst §4.87, KVM_SET_GUEST_DEBUG)
 */
import { WRITE, ioc } from './abi.ts';

/** `struct kvm_guest_debug`; of the debug registers KVM uses DR0 to DR3 and DR7. */
export const GUEST_DEBUG = { control: 0x00, debugRegisters: 0x08, size: 0x48 } as const;
export const GUEST_DEBUG_DR7 = 7;

/** KVM_GUESTDBG_* */
export const GUESTDBG = {
  enable: 0x1,
  singleStep: 0x2,
  useSoftwareBreakpoints: 0x1_0000,
  useHardwareBreakpoints: 0x2_0000,
  injectDb: 0x4_0000,
  injectBp: 0x8_0000,
  blockInterrupts: 0x10_0000,
} as const;

/** `struct kvm_debug_exit_arch`, at these offsets of `struct kvm_run`. */
export const DEBUG_EXIT = { exception: 0x20, pc: 0x28, dr6: 0x30, dr7: 0x38 } as const;
/** Vectors of the exceptions that it names. (Intel SDM 3A §6.15) */
export const EXCEPTION = { debug: 1, breakpoint: 3 } as const;

/** `set2`: its value is the flags of KVM_SET_GUEST_DEBUG that KVM knows. */
export const DEBUG_CAP = { setGuestDebug: 23, setGuestDebug2: 195 } as const;

export const SET_GUEST_DEBUG = ioc(WRITE, 0x9b, GUEST_DEBUG.size);
