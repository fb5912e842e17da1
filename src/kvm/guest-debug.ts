/** Breakpoints and single steps of a vCPU. (api.rst §4.87) */
import { viewOf } from '../binary/bytes.ts';
import { checked, libc } from '../ffi/libc.ts';
import {
  DEBUG_CAP,
  DEBUG_EXIT,
  GUEST_DEBUG,
  GUEST_DEBUG_DR7,
  GUESTDBG,
  SET_GUEST_DEBUG,
} from './debug-abi.ts';
import type { KvmSystem } from './system.ts';

/** What a vCPU is to stop at, and what it is to do first. */
export interface GuestDebug {
  /** Bits of GUESTDBG. */
  readonly control: number;
  /** DR0 to DR3, with GUESTDBG.useHardwareBreakpoints. */
  readonly addresses: readonly bigint[];
  readonly dr7: bigint;
}

export const NO_GUEST_DEBUG: GuestDebug = { control: 0, addresses: [], dr7: 0n };

/** KVM_SET_GUEST_DEBUG. Blocks while the vCPU is in KVM_RUN. Throws SyscallError. */
export function setGuestDebug(vcpuFd: number, { control, addresses, dr7 }: GuestDebug): void {
  const argument = new Uint8Array(GUEST_DEBUG.size);
  const view = viewOf(argument);
  view.setUint32(GUEST_DEBUG.control, control, true);
  addresses.forEach((address, i) =>
    view.setBigUint64(GUEST_DEBUG.debugRegisters + 8 * i, BigInt.asUintN(64, address), true),
  );
  view.setBigUint64(GUEST_DEBUG.debugRegisters + 8 * GUEST_DEBUG_DR7, dr7, true);
  // SAFETY: KVM reads the structure, which has the size that it expects, only during the call.
  checked(libc.ioctl(vcpuFd, SET_GUEST_DEBUG, argument), 'KVM_SET_GUEST_DEBUG');
}

/** Bits of GUESTDBG that this KVM knows; 0: guests cannot be debugged. */
export function guestDebugFlags(system: KvmSystem): number {
  const flags = system.check(DEBUG_CAP.setGuestDebug2);
  if (flags > 0) return flags;
  const { enable, singleStep, useSoftwareBreakpoints, useHardwareBreakpoints, injectDb, injectBp } = GUESTDBG;
  const all = enable | singleStep | useSoftwareBreakpoints | useHardwareBreakpoints | injectDb | injectBp;
  return system.check(DEBUG_CAP.setGuestDebug) > 0 ? all : 0;
}

/** What KVM_EXIT_DEBUG says; `pc` is linear. */
export interface DebugExit {
  readonly exception: number;
  readonly pc: bigint;
  readonly dr6: bigint;
}

/** Of a vCPU that has exited with KVM_EXIT_DEBUG and is out of KVM_RUN since. */
export function readDebugExit(run: DataView): DebugExit {
  return {
    exception: run.getUint32(DEBUG_EXIT.exception, true),
    pc: run.getBigUint64(DEBUG_EXIT.pc, true),
    dr6: run.getBigUint64(DEBUG_EXIT.dr6, true),
  };
}
