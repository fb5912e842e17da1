/**
 * Reads and writes the whole state of a vCPU that is not in KVM_RUN. (api.rst, vCPU ioctls)
 *
 * SAFETY: KVM reads and writes each ioctl's argument, which is local and has the size that KVM expects, only
 * during the call.
 */
import { hex, putU64, viewOf } from '../binary/bytes.ts';
import { SyscallError } from '../ffi/errno.ts';
import { addressOf, asPointer, checked, lastErrno, libc } from '../ffi/libc.ts';
import { VoltError } from '../volt-error.ts';
import { CPUID2, CPUID_ENTRY, FPU, IOCTL, LAPIC, MSR_ENTRY, MSRS, REGS, SREGS, VCPU_EVENTS } from './abi.ts';
import {
  countMsrs,
  msrCall,
  MSRS_PER_CALL,
  msrRequest,
  msrsToSave,
  savedMsr,
  withoutMsrs,
} from './saved-msrs.ts';
import {
  DEBUG_REGS,
  DEVICE_ATTR,
  MSR_LIST,
  NESTED_FORMAT,
  NESTED_STATE,
  SREGS2,
  STATE_CAP,
  STATE_IOCTL,
  STATE_MSR,
  TSC_OFFSET,
  VCPU_EVENT_FLAG,
  XCRS,
  XSAVE_BYTES,
} from './state-abi.ts';
import type { KvmSystem } from './system.ts';
import { readMpState, readTscKhz, writeMpState, type KvmVcpu } from './vcpu.ts';

/** The structures of one vCPU, as KVM has them; vmm/state/machine-state.ts describes each. */
export interface VcpuRegisters {
  readonly mpState: number;
  readonly cpuid: Uint8Array;
  readonly regs: Uint8Array;
  readonly sregs: Uint8Array;
  readonly xsave?: Uint8Array | undefined;
  readonly fpu?: Uint8Array | undefined;
  readonly xcrs?: Uint8Array | undefined;
  readonly debugRegs?: Uint8Array | undefined;
  readonly lapic: Uint8Array;
  readonly msrs: Uint8Array;
  readonly events: Uint8Array;
  readonly tscKhz: number;
  readonly nested?: Uint8Array | undefined;
}

/** What this host's KVM can read and write of a vCPU. */
export interface StateSupport {
  readonly sregs2: boolean;
  /** Size of the XSAVE area; 0: KVM has no XSAVE. */
  readonly xsaveBytes: number;
  readonly hasXsave2: boolean;
  readonly xcrs: boolean;
  readonly tscScaling: boolean;
  readonly tscOffset: boolean;
  /** Room that the state of a nested guest needs; 0: KVM cannot read it. */
  readonly nestedBytes: number;
  /** KVM_GET_MSR_INDEX_LIST */
  readonly msrs: readonly number[];
}

const MAX_CPUID_ENTRIES = 256;
const MAX_LISTED_MSRS = 1024;
/** EFER.SVME (APM 2 §3.1.7) */
const EFER_SVME = 1n << 12n;
const NO_VMXON = 0xffff_ffff_ffff_ffffn;
const MC_BANKS_MASK = 0xffn;

export function readStateSupport(system: KvmSystem): StateSupport {
  const has = (capability: number) => system.check(capability) > 0;
  const xsave2 = system.check(STATE_CAP.xsave2);
  return {
    sregs2: has(STATE_CAP.sregs2),
    xsaveBytes: has(STATE_CAP.xsave) ? Math.max(xsave2, XSAVE_BYTES) : 0,
    hasXsave2: xsave2 > 0,
    xcrs: has(STATE_CAP.xcrs),
    tscScaling: has(STATE_CAP.tscControl),
    tscOffset: has(STATE_CAP.vcpuAttributes),
    nestedBytes: system.check(STATE_CAP.nestedState),
    msrs: listMsrs(system.fd),
  };
}

function listMsrs(systemFd: number): number[] {
  const list = new Uint8Array(MSR_LIST.size + 4 * MAX_LISTED_MSRS);
  const view = viewOf(list);
  view.setUint32(MSR_LIST.nmsrs, MAX_LISTED_MSRS, true);
  checked(libc.ioctl(systemFd, STATE_IOCTL.getMsrIndexList, list), 'KVM_GET_MSR_INDEX_LIST');
  const count = view.getUint32(MSR_LIST.nmsrs, true);
  return Array.from({ length: count }, (_, i) => view.getUint32(MSR_LIST.size + 4 * i, true));
}

/** Reads vCPUs of one machine, which all have the same MSRs. */
export class VcpuReader {
  readonly #support: StateSupport;
  /** Those that KVM lets user space read; known after the first vCPU. */
  #readable: readonly number[] | undefined;

  constructor(support: StateSupport) {
    this.#support = support;
  }

  /** The vCPU must not be in KVM_RUN. Throws SyscallError. */
  read(vcpuFd: number): VcpuRegisters {
    const { sregs2, xsaveBytes, hasXsave2, xcrs, nestedBytes } = this.#support;
    const get = (request: number, bytes: number, call: string) => {
      const result = new Uint8Array(bytes);
      checked(libc.ioctl(vcpuFd, request, result), call);
      return result;
    };
    // First of all, because KVM carries out a pending INIT or SIPI now, which changes all other registers.
    const mpState = readMpState(vcpuFd);
    const events = get(IOCTL.getVcpuEvents, VCPU_EVENTS.size, 'KVM_GET_VCPU_EVENTS');
    const sregs = sregs2
      ? get(STATE_IOCTL.getSregs2, SREGS2.size, 'KVM_GET_SREGS2')
      : get(IOCTL.getSregs, SREGS.size, 'KVM_GET_SREGS');
    const fpu =
      xsaveBytes === 0
        ? { fpu: get(STATE_IOCTL.getFpu, FPU.size, 'KVM_GET_FPU') }
        : {
            xsave: get(hasXsave2 ? STATE_IOCTL.getXsave2 : STATE_IOCTL.getXsave, xsaveBytes, 'KVM_GET_XSAVE'),
          };
    const nested = nestedBytes > 0 ? readNested(vcpuFd, nestedBytes, sregs) : undefined;
    return {
      mpState,
      events,
      cpuid: readCpuid(vcpuFd),
      regs: get(IOCTL.getRegs, REGS.size, 'KVM_GET_REGS'),
      sregs,
      ...fpu,
      ...(xcrs ? { xcrs: get(STATE_IOCTL.getXcrs, XCRS.size, 'KVM_GET_XCRS') } : {}),
      debugRegs: get(STATE_IOCTL.getDebugRegs, DEBUG_REGS.size, 'KVM_GET_DEBUGREGS'),
      lapic: get(IOCTL.getLapic, LAPIC.size, 'KVM_GET_LAPIC'),
      msrs: this.#readMsrs(vcpuFd),
      tscKhz: readTscKhz(vcpuFd),
      ...(nested ? { nested } : {}),
    };
  }

  #readMsrs(vcpuFd: number): Uint8Array {
    if (this.#readable === undefined) {
      const banks = savedMsr(readMsrs(vcpuFd, [STATE_MSR.ia32McgCap]), STATE_MSR.ia32McgCap) ?? 0n;
      const wanted = msrsToSave(this.#support.msrs, Number(banks & MC_BANKS_MASK));
      const block = readMsrs(vcpuFd, wanted);
      const view = viewOf(block);
      this.#readable = Array.from({ length: countMsrs(block) }, (_, i) =>
        view.getUint32(i * MSR_ENTRY.size + MSR_ENTRY.index, true),
      );
      return block;
    }
    return readMsrs(vcpuFd, this.#readable);
  }
}

/** A block of those of `indices` that KVM lets user space read. Throws SyscallError. */
function readMsrs(vcpuFd: number, indices: readonly number[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let from = 0; from < indices.length;) {
    const request = msrRequest(indices.slice(from, from + MSRS_PER_CALL));
    const read = checked(libc.ioctl(vcpuFd, STATE_IOCTL.getMsrs, request), 'KVM_GET_MSRS');
    pieces.push(request.subarray(MSRS.size, MSRS.size + read * MSR_ENTRY.size));
    // KVM stops at one that it refuses.
    const asked = (request.length - MSRS.size) / MSR_ENTRY.size;
    from += read < asked ? read + 1 : read;
  }
  return new Uint8Array(Buffer.concat(pieces));
}

/** KVM_GET_CPUID2: `struct kvm_cpuid2`. Throws SyscallError. */
export function readCpuid(vcpuFd: number): Uint8Array {
  const table = new Uint8Array(CPUID2.size + MAX_CPUID_ENTRIES * CPUID_ENTRY.size);
  const view = viewOf(table);
  view.setUint32(CPUID2.nent, MAX_CPUID_ENTRIES, true);
  checked(libc.ioctl(vcpuFd, STATE_IOCTL.getCpuid2, table), 'KVM_GET_CPUID2');
  return table.slice(0, CPUID2.size + view.getUint32(CPUID2.nent, true) * CPUID_ENTRY.size);
}

/** undefined for a guest that does not use the CPU's virtualization. */
function readNested(vcpuFd: number, bytes: number, sregs: Uint8Array): Uint8Array | undefined {
  const state = new Uint8Array(Math.max(bytes, NESTED_STATE.size));
  const view = viewOf(state);
  view.setUint32(NESTED_STATE.bytes, state.length, true);
  // A vCPU without such CPUID bits has no such state.
  if (libc.ioctl(vcpuFd, STATE_IOCTL.getNestedState, state) < 0) return undefined;
  const efer = viewOf(sregs).getBigUint64(SREGS.efer, true);
  const isVmx = view.getUint16(NESTED_STATE.format, true) === NESTED_FORMAT.vmx;
  const inUse = isVmx
    ? view.getBigUint64(NESTED_STATE.vmxonPa, true) !== NO_VMXON
    : (efer & EFER_SVME) !== 0n;
  return inUse ? state.slice(0, view.getUint32(NESTED_STATE.bytes, true)) : undefined;
}

/** Frequencies that KVM takes for equal, in millionths. (Linux arch/x86/kvm/x86.c, tsc_tolerance_ppm) */
const TSC_TOLERANCE_PPM = 250;

/**
 * Writes all of `saved` to a new vCPU, but for its TSC deadline (`writeTscDeadline`). Returns a warning, or
 * undefined. Throws SyscallError, and VoltError 'host' for an MSR that KVM refuses.
 */
export function writeVcpu({ fd }: KvmVcpu, saved: VcpuRegisters, support: StateSupport): string | undefined {
  const set = (request: number, argument: Uint8Array, call: string) =>
    checked(libc.ioctl(fd, request, argument), call);
  set(IOCTL.setCpuid2, cpuidToSet(saved.cpuid), 'KVM_SET_CPUID2');
  const warning = writeTscKhz(fd, saved.tscKhz, support);
  // The mode of the local APIC is in the sregs, and its registers are not written in another mode. They also
  // enable SVM, without which there is no nested state.
  writeSregs(set, saved.sregs, support);
  set(IOCTL.setLapic, saved.lapic, 'KVM_SET_LAPIC');
  if (saved.nested) {
    writeMsrs(fd, onlyFeatureControl(saved.msrs));
    set(STATE_IOCTL.setNestedState, nestedToSet(saved.nested), 'KVM_SET_NESTED_STATE');
  }
  // This discards pending exceptions, which the events below have.
  set(IOCTL.setRegs, saved.regs, 'KVM_SET_REGS');
  if (saved.xcrs && support.xcrs) set(STATE_IOCTL.setXcrs, saved.xcrs, 'KVM_SET_XCRS');
  writeFpu(set, saved, support);
  if (saved.debugRegs) set(STATE_IOCTL.setDebugRegs, saved.debugRegs, 'KVM_SET_DEBUGREGS');
  writeMsrs(fd, withoutMsrs(saved.msrs, [STATE_MSR.ia32TscDeadline, ...unsetDebugCtl(saved.msrs)]));
  set(IOCTL.setVcpuEvents, eventsToSet(saved.events), 'KVM_SET_VCPU_EVENTS');
  writeMpState(fd, saved.mpState);
  return warning;
}

/** With the count of the entries that are there: KVM believes it. */
function cpuidToSet(table: Uint8Array): Uint8Array {
  const argument = table.slice();
  viewOf(argument).setUint32(CPUID2.nent, (table.length - CPUID2.size) / CPUID_ENTRY.size, true);
  return argument;
}

/** The same with its size. */
function nestedToSet(state: Uint8Array): Uint8Array {
  const argument = state.slice();
  viewOf(argument).setUint32(NESTED_STATE.bytes, state.length, true);
  return argument;
}

type Setter = (request: number, argument: Uint8Array, call: string) => void;

function writeSregs(set: Setter, sregs: Uint8Array, support: StateSupport): void {
  const isNew = sregs.length === SREGS2.size;
  if (isNew && support.sregs2) return set(STATE_IOCTL.setSregs2, sregs, 'KVM_SET_SREGS2');
  const old = new Uint8Array(SREGS.size);
  old.set(sregs.subarray(0, isNew ? SREGS.interruptBitmap : SREGS.size));
  set(IOCTL.setSregs, old, 'KVM_SET_SREGS');
}

function writeFpu(set: Setter, { xsave, fpu }: VcpuRegisters, { xsaveBytes }: StateSupport): void {
  if (xsave === undefined) {
    if (fpu) set(IOCTL.setFpu, fpu, 'KVM_SET_FPU');
    return;
  }
  if (xsaveBytes === 0) {
    throw new VoltError(
      'host',
      "Cannot restore the FPU: this host's KVM has no XSAVE; restore on a host like the one of the snapshot",
    );
  }
  // KVM reads as much as its own area has.
  const area = new Uint8Array(Math.max(xsave.length, xsaveBytes));
  area.set(xsave);
  set(STATE_IOCTL.setXsave, area, 'KVM_SET_XSAVE');
}

/** Payloads and triple faults are events only for a VM that has asked KVM for them; Volt does not. */
function eventsToSet(events: Uint8Array): Uint8Array {
  const argument = events.slice();
  const view = viewOf(argument);
  const flags = view.getUint32(VCPU_EVENTS.flags, true);
  view.setUint32(VCPU_EVENTS.flags, flags & ~(VCPU_EVENT_FLAG.payload | VCPU_EVENT_FLAG.tripleFault), true);
  return argument;
}

function writeTscKhz(fd: number, wanted: number, { tscScaling }: StateSupport): string | undefined {
  const own = readTscKhz(fd);
  if (wanted === 0 || own === 0 || Math.abs(wanted - own) * 1e6 <= own * TSC_TOLERANCE_PPM) return undefined;
  // SAFETY: the argument is a number; KVM does not dereference it.
  if (tscScaling && libc.ioctl(fd, STATE_IOCTL.setTscKhz, asPointer(wanted as never)) >= 0) return undefined;
  return `the guest's TSC now runs at ${own} kHz instead of ${wanted}: this host cannot scale it, so clocks that rely on it go wrong`;
}

function onlyFeatureControl(msrs: Uint8Array): Uint8Array {
  const index = viewOf(msrs).getUint32(MSR_ENTRY.index, true);
  return index === STATE_MSR.ia32FeatureControl ? msrs.subarray(0, MSR_ENTRY.size) : msrs.subarray(0, 0);
}

/** A new vCPU has 0 there, and a KVM without LBRs complains to the host's log about a write of that. */
function unsetDebugCtl(msrs: Uint8Array): number[] {
  return savedMsr(msrs, STATE_MSR.ia32DebugCtl) === 0n ? [STATE_MSR.ia32DebugCtl] : [];
}

/** KVM_SET_MSRS. One that KVM refuses is left alone if it has that value already. */
function writeMsrs(fd: number, msrs: Uint8Array): void {
  const count = countMsrs(msrs);
  for (let from = 0; from < count;) {
    const to = Math.min(count, from + MSRS_PER_CALL);
    const written = checked(libc.ioctl(fd, IOCTL.setMsrs, msrCall(msrs, from, to)), 'KVM_SET_MSRS');
    from += written;
    if (from >= to) continue;
    const view = viewOf(msrs.subarray(from * MSR_ENTRY.size));
    const index = view.getUint32(MSR_ENTRY.index, true);
    const value = view.getBigUint64(MSR_ENTRY.data, true);
    const own = savedMsr(readMsrs(fd, [index]), index);
    // One that this KVM does not know and that was never changed does not matter.
    if (own !== value && !(own === undefined && value === 0n)) {
      throw new VoltError(
        'host',
        `Cannot set MSR ${hex(index)} to 0x${value.toString(16)}: this host's KVM refuses it; restore on a host like the one of the snapshot`,
      );
    }
    from++;
  }
}

/** The last step of a vCPU's restoration: with its TSC in place, the timer of its local APIC. */
export function writeTscDeadline({ fd }: KvmVcpu, { msrs }: VcpuRegisters): void {
  const deadline = savedMsr(msrs, STATE_MSR.ia32TscDeadline);
  if (deadline === undefined || deadline === 0n) return;
  const entry = new Uint8Array(MSR_ENTRY.size);
  viewOf(entry).setUint32(MSR_ENTRY.index, STATE_MSR.ia32TscDeadline, true);
  viewOf(entry).setBigUint64(MSR_ENTRY.data, deadline, true);
  writeMsrs(fd, entry);
}

/** KVM_VCPU_TSC_OFFSET; undefined: this KVM has none. */
export function readTscOffset(vcpuFd: number): bigint | undefined {
  const value = new BigUint64Array(1);
  const result = libc.ioctl(vcpuFd, STATE_IOCTL.getDeviceAttribute, tscOffsetAttribute(value));
  return result < 0 ? undefined : value[0];
}

/** Throws SyscallError. */
export function writeTscOffset(vcpuFd: number, offset: bigint): void {
  const value = BigUint64Array.of(BigInt.asUintN(64, offset));
  if (libc.ioctl(vcpuFd, STATE_IOCTL.setDeviceAttribute, tscOffsetAttribute(value)) < 0)
    throw new SyscallError('KVM_SET_DEVICE_ATTR', lastErrno());
}

/** SAFETY: `value` must be kept alive until the call has returned. */
function tscOffsetAttribute(value: BigUint64Array): Uint8Array {
  const attribute = new Uint8Array(DEVICE_ATTR.size);
  const view = viewOf(attribute);
  view.setUint32(DEVICE_ATTR.group, TSC_OFFSET.group, true);
  putU64(view, DEVICE_ATTR.attr, TSC_OFFSET.attr);
  putU64(view, DEVICE_ATTR.addr, addressOf(value));
  return attribute;
}
