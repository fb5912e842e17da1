/** Notes of a core file on a vCPU that is out of KVM_RUN, from KVM's structures. */
import { viewOf } from '../../binary/bytes.ts';
import { DTABLE, FPU, MSR_ENTRY, MSRS, REGS, SEGMENT, SREGS } from '../../kvm/abi.ts';
import type { CoreNote } from '../../gdb/core-file.ts';
import {
  FPREGS,
  NOTE_TYPE,
  PRSTATUS,
  QEMU_CONTROL,
  QEMU_GENERAL,
  QEMU_SEGMENT,
  QEMU_SEGMENTS,
  QEMU_STATE,
  USER_REGISTERS,
} from '../../gdb/core.layout.ts';
import { linearRip, type VcpuBlocks } from './registers.ts';

const FPU_FIELD = { ftwx: 0x84, fop: 0x86 } as const;
const KERNEL_GS_BASE_AT = MSRS.size + MSR_ENTRY.data;

/** For gdb: general and x87/SSE registers. A thread's id is its vCPU's index plus 1. */
export function threadNotes(index: number, blocks: VcpuBlocks): CoreNote[] {
  return [
    { name: 'CORE', type: NOTE_TYPE.prstatus, data: encodePrstatus(index + 1, blocks) },
    { name: 'CORE', type: NOTE_TYPE.fpregset, data: encodeFpregs(blocks.fpu) },
  ];
}

/** For crash: control registers and descriptor tables besides. */
export function qemuNote(blocks: VcpuBlocks): CoreNote {
  return { name: 'QEMU', type: NOTE_TYPE.qemu, data: encodeQemuState(blocks) };
}

function encodePrstatus(pid: number, blocks: VcpuBlocks): Uint8Array {
  const data = new Uint8Array(PRSTATUS.size);
  const view = viewOf(data);
  view.setUint32(PRSTATUS.pid, pid, true);
  USER_REGISTERS.forEach((name, i) =>
    view.setBigUint64(PRSTATUS.registers + 8 * i, registerOf(name, blocks), true),
  );
  view.setUint32(PRSTATUS.fpvalid, 1, true);
  return data;
}

function registerOf(name: (typeof USER_REGISTERS)[number], blocks: VcpuBlocks): bigint {
  const { regs, sregs } = blocks;
  switch (name) {
    case 'orig_rax':
      // No system call is under way.
      return 0xffff_ffff_ffff_ffffn;
    case 'rip':
      return linearRip(blocks);
    case 'eflags':
      return regs.getBigUint64(REGS.rflags, true);
    case 'fs_base':
      return sregs.getBigUint64(SREGS.fs + SEGMENT.base, true);
    case 'gs_base':
      return sregs.getBigUint64(SREGS.gs + SEGMENT.base, true);
    default:
      return isSegment(name)
        ? BigInt(sregs.getUint16(SREGS[name] + SEGMENT.selector, true))
        : regs.getBigUint64(REGS[name], true);
  }
}

function isSegment(name: string): name is 'cs' | 'ss' | 'ds' | 'es' | 'fs' | 'gs' {
  return /^[csdefg]s$/.test(name);
}

function encodeFpregs(fpu: DataView): Uint8Array {
  const data = new Uint8Array(FPREGS.size);
  const view = viewOf(data);
  view.setUint16(FPREGS.fcw, fpu.getUint16(FPU.fcw, true), true);
  view.setUint16(FPREGS.fsw, fpu.getUint16(FPU.fsw, true), true);
  view.setUint16(FPREGS.ftwx, fpu.getUint8(FPU_FIELD.ftwx), true);
  view.setUint16(FPREGS.fop, fpu.getUint16(FPU_FIELD.fop, true), true);
  view.setUint32(FPREGS.mxcsr, fpu.getUint32(FPU.mxcsr, true), true);
  data.set(new Uint8Array(fpu.buffer, fpu.byteOffset + FPU.fpr, 8 * 16), FPREGS.st);
  data.set(new Uint8Array(fpu.buffer, fpu.byteOffset + FPU.xmm, 16 * 16), FPREGS.xmm);
  return data;
}

function encodeQemuState({ regs, sregs, msr }: VcpuBlocks): Uint8Array {
  const data = new Uint8Array(QEMU_STATE.size);
  const view = viewOf(data);
  view.setUint32(QEMU_STATE.version, 1, true);
  view.setUint32(QEMU_STATE.bytes, QEMU_STATE.size, true);
  let at: number = QEMU_STATE.general;
  for (const name of QEMU_GENERAL) {
    view.setBigUint64(at, regs.getBigUint64(REGS[name], true), true);
    at += 8;
  }
  for (const name of QEMU_SEGMENTS) {
    if (name === 'gdt' || name === 'idt') putTable(view, at, sregs, SREGS[name]);
    else putSegment(view, at, sregs, SREGS[name]);
    at += QEMU_SEGMENT.size;
  }
  for (const name of QEMU_CONTROL) {
    if (name !== 'cr1') view.setBigUint64(at, sregs.getBigUint64(SREGS[name], true), true);
    at += 8;
  }
  view.setBigUint64(at, msr.getBigUint64(KERNEL_GS_BASE_AT, true), true);
  return data;
}

function putSegment(view: DataView, at: number, sregs: DataView, segment: number): void {
  const field = (offset: number) => sregs.getUint8(segment + offset);
  view.setUint32(at + QEMU_SEGMENT.selector, sregs.getUint16(segment + SEGMENT.selector, true), true);
  view.setUint32(at + QEMU_SEGMENT.limit, sregs.getUint32(segment + SEGMENT.limit, true), true);
  // The second word of a descriptor. (SDM 3A figure 3-8)
  const flags =
    (field(SEGMENT.type) << 8) |
    (field(SEGMENT.s) << 12) |
    (field(SEGMENT.dpl) << 13) |
    (field(SEGMENT.present) << 15) |
    (field(SEGMENT.avl) << 20) |
    (field(SEGMENT.l) << 21) |
    (field(SEGMENT.db) << 22) |
    (field(SEGMENT.g) << 23);
  view.setUint32(at + QEMU_SEGMENT.flags, flags, true);
  view.setBigUint64(at + QEMU_SEGMENT.base, sregs.getBigUint64(segment + SEGMENT.base, true), true);
}

function putTable(view: DataView, at: number, sregs: DataView, table: number): void {
  view.setUint32(at + QEMU_SEGMENT.limit, sregs.getUint16(table + DTABLE.limit, true), true);
  view.setBigUint64(at + QEMU_SEGMENT.base, sregs.getBigUint64(table + DTABLE.base, true), true);
}
