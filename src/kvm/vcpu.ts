/**
 * A vCPU's file descriptor and its kvm_run page. (api.rst, vCPU ioctls)
 *
 * SAFETY: KVM reads and writes each ioctl's argument, which is local or owned by its caller, only during the
 * call.
 */
import { hex, putU64, viewOf } from '../binary/bytes.ts';
import { ERRNO } from '../ffi/errno.ts';
import { type OwnedFd } from '../ffi/file.ts';
import { checked, libc } from '../ffi/libc.ts';
import { MAP, Mapping, PROT } from '../ffi/mapping.ts';
import {
  FPU,
  IOCTL,
  LAPIC,
  MP_STATE,
  MSR_ENTRY,
  MSRS,
  REGS,
  SREGS,
  VCPU_EVENTS,
  VCPUEVENT_VALID_SIPI_VECTOR,
} from './abi.ts';

export interface MsrValue {
  readonly index: number;
  /** Below 2^53. */
  readonly data: number;
}

/** An encoded `struct kvm_msrs`, which can be written to many vCPUs. */
export interface MsrBlock {
  readonly indices: readonly number[];
  readonly block: Uint8Array;
}

/** For `setMsrs`. Values are below 2^53. */
export function encodeMsrs(values: readonly MsrValue[]): MsrBlock {
  const block = new Uint8Array(MSRS.size + values.length * MSR_ENTRY.size);
  const view = viewOf(block);
  view.setUint32(MSRS.nmsrs, values.length, true);
  values.forEach((msr, i) => {
    const at = MSRS.size + i * MSR_ENTRY.size;
    view.setUint32(at + MSR_ENTRY.index, msr.index, true);
    putU64(view, at + MSR_ENTRY.data, msr.data);
  });
  return { indices: values.map(({ index }) => index), block };
}

let resetFpuBlock: Uint8Array | undefined;

function encodeResetFpu(): Uint8Array {
  const fpu = new Uint8Array(FPU.size);
  const view = viewOf(fpu);
  view.setUint16(FPU.fcw, FCW_RESET, true);
  view.setUint32(FPU.mxcsr, MXCSR_RESET, true);
  return fpu;
}

/** IA32_APIC_BASE.EXTD: x2APIC mode. (Intel SDM 3A §11.12.1) */
const APIC_BASE_EXTD = 1 << 10;

/** Delivery mode of LVT entries, bits 10–8. (Intel SDM 3A §11.5.1) */
const LVT_MODE_EXTINT = 0x700;
const LVT_MODE_NMI = 0x400;

/** x87 control word as FNINIT sets it, and MXCSR after reset. (Intel SDM 3A table 10-1) */
const FCW_RESET = 0x37f;
const MXCSR_RESET = 0x1f80;

export class KvmVcpu implements Disposable {
  readonly apicId: number;
  /** `struct kvm_run`. SAFETY: mapped until dispose; KVM and the thread that runs the vCPU write it. */
  readonly runPage: Mapping;
  readonly #owned: OwnedFd;

  constructor(owned: OwnedFd, apicId: number, mmapBytes: number) {
    this.#owned = owned;
    this.apicId = apicId;
    this.runPage = new Mapping({
      bytes: mmapBytes,
      prot: PROT.read | PROT.write,
      flags: MAP.shared,
      fd: owned.fd,
      what: `kvm_run of vCPU ${apicId}`,
    });
  }

  /** Valid until dispose. */
  get fd(): number {
    return this.#owned.fd;
  }

  /** KVM_SET_CPUID2 of a table from `encodeCpuid`. Throws SyscallError. */
  setCpuid(table: Uint8Array): void {
    checked(libc.ioctl(this.fd, IOCTL.setCpuid2, table), 'KVM_SET_CPUID2');
  }

  /** KVM_SET_REGS: `fill` writes at offsets of REGS; all other registers become 0. Throws SyscallError. */
  setRegs(fill: (view: DataView) => void): void {
    const regs = new Uint8Array(REGS.size);
    fill(viewOf(regs));
    checked(libc.ioctl(this.fd, IOCTL.setRegs, regs), 'KVM_SET_REGS');
  }

  /** KVM_GET_SREGS, `change` at offsets of SREGS, KVM_SET_SREGS. Throws SyscallError. */
  updateSregs(change: (view: DataView) => void): void {
    const sregs = readSregs(this.fd);
    change(sregs);
    checked(libc.ioctl(this.fd, IOCTL.setSregs, new Uint8Array(sregs.buffer)), 'KVM_SET_SREGS');
  }

  /**
   * KVM_SET_MSRS, which stores MSRs in order and returns how many it stored. Throws Error when that is not
   * all.
   */
  setMsrs({ indices, block }: MsrBlock): void {
    const stored = checked(libc.ioctl(this.fd, IOCTL.setMsrs, block), 'KVM_SET_MSRS');
    const refused = indices[stored];
    if (refused !== undefined) throw new Error(`Cannot set MSR ${hex(refused)}: KVM refuses the value`);
  }

  /** KVM_SET_FPU: x87 and SSE state after reset. Throws SyscallError. */
  resetFpu(): void {
    checked(libc.ioctl(this.fd, IOCTL.setFpu, (resetFpuBlock ??= encodeResetFpu())), 'KVM_SET_FPU');
  }

  /**
   * Enables x2APIC mode before the guest runs, as firmware does where an APIC id is above 254: a Linux that
   * does not start in that mode ignores CPUs with such ids (seen with 6.1). After `setCpuid`, with x2APIC in
   * CPUID. Throws SyscallError.
   */
  enableX2apic(): void {
    this.updateSregs((view) => {
      view.setUint32(SREGS.apicBase, view.getUint32(SREGS.apicBase, true) | APIC_BASE_EXTD, true);
    });
  }

  /**
   * Programs LINT0 as ExtINT (the PICs' INTR) and LINT1 as NMI, as firmware does. Throws SyscallError.
   * (MPS 1.4 §3.6.2.2)
   */
  setLocalInterruptPins(): void {
    const lapic = new Uint8Array(LAPIC.size);
    checked(libc.ioctl(this.fd, IOCTL.getLapic, lapic), 'KVM_GET_LAPIC');
    const view = viewOf(lapic);
    view.setUint32(LAPIC.lvtLint0, LVT_MODE_EXTINT, true);
    view.setUint32(LAPIC.lvtLint1, LVT_MODE_NMI, true);
    checked(libc.ioctl(this.fd, IOCTL.setLapic, lapic), 'KVM_SET_LAPIC');
  }

  [Symbol.dispose](): void {
    this.runPage[Symbol.dispose]();
    this.#owned.close();
  }
}

/**
 * KVM_KVMCLOCK_CTRL: sets the guest-paused flag of kvmclock, so that the guest's soft-lockup watchdog stays
 * quiet. KVM returns EINVAL for a guest without kvmclock, which is ignored.
 */
export function notifyGuestPaused(vcpuFd: number): void {
  libc.ioctl(vcpuFd, IOCTL.kvmclockCtrl, null);
}

/** KVM_GET_TSC_KHZ: the vCPU's TSC frequency in kHz; 0 when KVM cannot tell. */
export function readTscKhz(vcpuFd: number): number {
  const khz = libc.ioctl(vcpuFd, IOCTL.getTscKhz, null);
  return khz > 0 ? khz : 0;
}

/**
 * KVM_GET_MP_STATE: one of KVM_MP_STATE. KVM also processes a pending INIT or SIPI. With `scratch` the call
 * allocates nothing. Throws SyscallError.
 */
export function readMpState(
  vcpuFd: number,
  scratch: Uint32Array = new Uint32Array(MP_STATE.size / 4),
): number {
  checked(libc.ioctl(vcpuFd, IOCTL.getMpState, scratch), 'KVM_GET_MP_STATE');
  return scratch[0] ?? 0;
}

/** KVM_SET_MP_STATE to one of KVM_MP_STATE. Blocks while the vCPU is in KVM_RUN. Throws SyscallError. */
export function writeMpState(vcpuFd: number, state: number): void {
  checked(libc.ioctl(vcpuFd, IOCTL.setMpState, Uint32Array.of(state)), 'KVM_SET_MP_STATE', (errno) =>
    errno === ERRNO.EINVAL ? "this host's KVM does not let user space set this MP state" : undefined,
  );
}

/**
 * KVM_GET_VCPU_EVENTS, `sipi_vector`: the vector of a received SIPI. Linux since 3.10 always returns 0: it
 * keeps the vector in the local APIC and uses it at the next guest entry. Throws SyscallError.
 */
export function readSipiVector(vcpuFd: number): number {
  const events = new Uint8Array(VCPU_EVENTS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getVcpuEvents, events), 'KVM_GET_VCPU_EVENTS');
  return viewOf(events).getUint32(VCPU_EVENTS.sipiVector, true);
}

/** KVM_SET_VCPU_EVENTS: the vector at which a vCPU starts whose MP state is then set to SIPI_RECEIVED. */
export function writeSipiVector(vcpuFd: number, vector: number): void {
  const events = new Uint8Array(VCPU_EVENTS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getVcpuEvents, events), 'KVM_GET_VCPU_EVENTS');
  const view = viewOf(events);
  view.setUint32(VCPU_EVENTS.sipiVector, vector, true);
  view.setUint32(VCPU_EVENTS.flags, VCPUEVENT_VALID_SIPI_VECTOR, true);
  checked(libc.ioctl(vcpuFd, IOCTL.setVcpuEvents, events), 'KVM_SET_VCPU_EVENTS');
}

/** KVM_GET_REGS; offsets in REGS. Blocks while the vCPU is in KVM_RUN. Throws SyscallError. */
export function readRegs(vcpuFd: number): DataView {
  const regs = new Uint8Array(REGS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getRegs, regs), 'KVM_GET_REGS');
  return viewOf(regs);
}

/** KVM_GET_SREGS; offsets in SREGS. Blocks and throws like `readRegs`. */
export function readSregs(vcpuFd: number): DataView {
  const sregs = new Uint8Array(SREGS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getSregs, sregs), 'KVM_GET_SREGS');
  return viewOf(sregs);
}
