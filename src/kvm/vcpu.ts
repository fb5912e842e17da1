/** A vCPU's file descriptor and the page it shares with KVM. */
import { putU64, viewOf } from '../binary/bytes.ts';
import { ERRNO } from '../ffi/errno.ts';
import { OwnedFd } from '../ffi/file.ts';
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
  readonly data: number;
}

/** `struct kvm_msrs`, which many vCPUs may be given. */
export interface MsrBlock {
  readonly indices: readonly number[];
  readonly block: Uint8Array;
}

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

/** IA32_APIC_BASE: in x2APIC mode. (SDM 3A §11.12.1) */
const APIC_BASE_EXTD = 1 << 10;

/** LVT entries: delivery mode in bits 10–8. (SDM 3A §11.5.1) */
const LVT_MODE_EXTINT = 0x700;
const LVT_MODE_NMI = 0x400;

/** x87 and SSE control words after reset. (SDM 3A table 10-1) */
const FCW_RESET = 0x37f;
const MXCSR_RESET = 0x1f80;

export class KvmVcpu implements Disposable {
  readonly apicId: number;
  /** `struct kvm_run`. SAFETY: owned here until dispose; KVM and the vCPU's worker write it. */
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

  get fd(): number {
    return this.#owned.fd;
  }

  /** A table from `encodeCpuid`. */
  setCpuid(table: Uint8Array): void {
    checked(libc.ioctl(this.fd, IOCTL.setCpuid2, table), 'KVM_SET_CPUID2');
  }

  /** Changes general registers by the offsets of REGS; what is not named becomes 0. */
  setRegs(fill: (view: DataView) => void): void {
    const regs = new Uint8Array(REGS.size);
    fill(viewOf(regs));
    checked(libc.ioctl(this.fd, IOCTL.setRegs, regs), 'KVM_SET_REGS');
  }

  /** Reads the special registers, lets `change` edit them by the offsets of SREGS, and writes them back. */
  updateSregs(change: (view: DataView) => void): void {
    const sregs = readSregs(this.fd);
    change(sregs);
    checked(libc.ioctl(this.fd, IOCTL.setSregs, new Uint8Array(sregs.buffer)), 'KVM_SET_SREGS');
  }

  /** Throws when KVM refuses one of them: it stores them in order and returns how many it took. */
  setMsrs({ indices, block }: MsrBlock): void {
    const taken = checked(libc.ioctl(this.fd, IOCTL.setMsrs, block), 'KVM_SET_MSRS');
    const refused = indices[taken];
    if (refused !== undefined)
      throw new Error(`Cannot set MSR 0x${refused.toString(16)}: KVM refused its value`);
  }

  resetFpu(): void {
    checked(libc.ioctl(this.fd, IOCTL.setFpu, (resetFpuBlock ??= encodeResetFpu())), 'KVM_SET_FPU');
  }

  /**
   * Hands the vCPU over in x2APIC mode, as firmware does where an APIC id is above 254: Linux leaves CPUs with such
   * ids out when it does not start in that mode (seen with 6.1). CPUID must have x2APIC by then.
   */
  enableX2apic(): void {
    this.updateSregs((view) => {
      view.setUint32(SREGS.apicBase, view.getUint32(SREGS.apicBase, true) | APIC_BASE_EXTD, true);
    });
  }

  /** LINT0 takes the PIC's interrupts (ExtINT), LINT1 is NMI: how firmware leaves a PC. (MPS 1.4 §3.6.2.2) */
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
 * KVM_KVMCLOCK_CTRL: tells a guest with kvmclock that it was paused, so that its watchdogs do not bark. A guest
 * that does not use kvmclock makes KVM refuse; then there is nothing to tell.
 */
export function notifyGuestPaused(vcpuFd: number): void {
  libc.ioctl(vcpuFd, IOCTL.kvmclockCtrl, null);
}

/** KVM_GET_TSC_KHZ of a vCPU: the guest's TSC frequency in kHz, or 0 when KVM does not say. */
export function readTscKhz(vcpuFd: number): number {
  const khz = libc.ioctl(vcpuFd, IOCTL.getTscKhz, null);
  return khz > 0 ? khz : 0;
}

/** KVM_GET_MP_STATE, as one of KVM_MP_STATE. Also lets KVM take a pending INIT or SIPI. */
export function readMpState(
  vcpuFd: number,
  scratch: Uint32Array = new Uint32Array(MP_STATE.size / 4),
): number {
  checked(libc.ioctl(vcpuFd, IOCTL.getMpState, scratch), 'KVM_GET_MP_STATE');
  return scratch[0] ?? 0;
}

/** KVM_SET_MP_STATE to one of KVM_MP_STATE. The vCPU must be out of KVM_RUN, or the call waits for that. */
export function writeMpState(vcpuFd: number, state: number): void {
  checked(libc.ioctl(vcpuFd, IOCTL.setMpState, Uint32Array.of(state)), 'KVM_SET_MP_STATE', (errno) =>
    errno === ERRNO.EINVAL ? "this host's KVM does not put a vCPU into this state from outside" : undefined,
  );
}

/**
 * The vector of a SIPI that the vCPU has received and not yet followed, from KVM_GET_VCPU_EVENTS. Linux since 3.10
 * says 0 whatever it is: there it is kept in the local APIC, and taken on the way into the guest.
 */
export function readSipiVector(vcpuFd: number): number {
  const events = new Uint8Array(VCPU_EVENTS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getVcpuEvents, events), 'KVM_GET_VCPU_EVENTS');
  return viewOf(events).getUint32(VCPU_EVENTS.sipiVector, true);
}

/** KVM_SET_VCPU_EVENTS: the vector of the next SIPI that KVM_SET_MP_STATE lets the vCPU receive. */
export function writeSipiVector(vcpuFd: number, vector: number): void {
  const events = new Uint8Array(VCPU_EVENTS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getVcpuEvents, events), 'KVM_GET_VCPU_EVENTS');
  const view = viewOf(events);
  view.setUint32(VCPU_EVENTS.sipiVector, vector, true);
  view.setUint32(VCPU_EVENTS.flags, VCPUEVENT_VALID_SIPI_VECTOR, true);
  checked(libc.ioctl(vcpuFd, IOCTL.setVcpuEvents, events), 'KVM_SET_VCPU_EVENTS');
}

/** KVM_GET_REGS; offsets in REGS. The vCPU must be out of KVM_RUN, or the call waits for that. */
export function readRegs(vcpuFd: number): DataView {
  const regs = new Uint8Array(REGS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getRegs, regs), 'KVM_GET_REGS');
  return viewOf(regs);
}

/** KVM_GET_SREGS; offsets in SREGS. Waits like `readRegs`. */
export function readSregs(vcpuFd: number): DataView {
  const sregs = new Uint8Array(SREGS.size);
  checked(libc.ioctl(vcpuFd, IOCTL.getSregs, sregs), 'KVM_GET_SREGS');
  return viewOf(sregs);
}
