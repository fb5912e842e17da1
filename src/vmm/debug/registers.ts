/**
 * Registers of a vCPU that is out of KVM_RUN, as gdb numbers them.
 *
 * `rip` is the linear address of the next instruction: CS base + RIP outside of 64-bit mode. gdb knows no segments, and
 * would otherwise take the start of an AP trampoline at 0x8000, where RIP is 0, for address 0.
 */
import { viewOf } from '../../binary/bytes.ts';
import { checked, libc } from '../../ffi/libc.ts';
import { DTABLE, FPU, IOCTL, MSR_ENTRY, MSRS, REGS, SEGMENT, SREGS } from '../../kvm/abi.ts';
import { STATE_IOCTL } from '../../kvm/state-abi.ts';
import { readRegs, readSregs } from '../../kvm/vcpu.ts';
import { GDB_REGISTERS, GDB_REGISTERS_BYTES } from '../../gdb/target-description.ts';
import type { PagingRegisters } from '../../gdb/page-walk.ts';

/** Where a register is in KVM's structures. */
interface Field {
  readonly in: 'regs' | 'sregs' | 'fpu' | 'msr';
  readonly offset: number;
  readonly bytes: number;
}

const MSR_KERNEL_GS_BASE = 0xc000_0102;
const CR0_PE = 1n;
const EFER_LMA = 1n << 10n;

const regs = (offset: number, bytes = 8): Field => ({ in: 'regs', offset, bytes });
const sregs = (offset: number, bytes = 8): Field => ({ in: 'sregs', offset, bytes });
const fpu = (offset: number, bytes: number): Field => ({ in: 'fpu', offset, bytes });

/** `struct kvm_fpu` beyond the fields that abi.ts names. */
const FPU_FIELD = { ftwx: 0x84, lastOpcode: 0x86, lastIp: 0x88, lastDp: 0x90 } as const;
const SELECTORS = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;

const FIELDS: Readonly<Record<string, Field>> = {
  ...Object.fromEntries(
    Object.entries(REGS)
      .filter(([name]) => name !== 'size' && name !== 'rflags')
      .map(([name, offset]) => [name, regs(offset)]),
  ),
  eflags: regs(REGS.rflags, 4),
  ...Object.fromEntries(SELECTORS.map((name) => [name, sregs(SREGS[name] + SEGMENT.selector, 2)])),
  ...Object.fromEntries(SELECTORS.map((name) => [`${name}_base`, sregs(SREGS[name] + SEGMENT.base)])),
  tr: sregs(SREGS.tr + SEGMENT.selector, 2),
  ldtr: sregs(SREGS.ldt + SEGMENT.selector, 2),
  tr_base: sregs(SREGS.tr + SEGMENT.base),
  gdt_base: sregs(SREGS.gdt + DTABLE.base),
  gdt_limit: sregs(SREGS.gdt + DTABLE.limit, 2),
  idt_base: sregs(SREGS.idt + DTABLE.base),
  idt_limit: sregs(SREGS.idt + DTABLE.limit, 2),
  cr0: sregs(SREGS.cr0),
  cr2: sregs(SREGS.cr2),
  cr3: sregs(SREGS.cr3),
  cr4: sregs(SREGS.cr4),
  cr8: sregs(SREGS.cr8),
  efer: sregs(SREGS.efer),
  apic_base: sregs(SREGS.apicBase),
  ...Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`st${i}`, fpu(FPU.fpr + 16 * i, 10)])),
  ...Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`xmm${i}`, fpu(FPU.xmm + 16 * i, 16)])),
  fctrl: fpu(FPU.fcw, 2),
  fstat: fpu(FPU.fsw, 2),
  fop: fpu(FPU_FIELD.lastOpcode, 2),
  fioff: fpu(FPU_FIELD.lastIp, 4),
  fooff: fpu(FPU_FIELD.lastDp, 4),
  mxcsr: fpu(FPU.mxcsr, 4),
  kernel_gs_base: { in: 'msr', offset: MSRS.size + MSR_ENTRY.data, bytes: 8 },
};

/** A vCPU's structures; read once, as the vCPU stands still. */
export interface VcpuBlocks {
  readonly regs: DataView;
  readonly sregs: DataView;
  readonly fpu: DataView;
  /** A `struct kvm_msrs` of one entry. */
  readonly msr: DataView;
}

/** Throws SyscallError. */
export function readBlocks(vcpuFd: number): VcpuBlocks {
  const fpuBlock = new Uint8Array(FPU.size);
  checked(libc.ioctl(vcpuFd, STATE_IOCTL.getFpu, fpuBlock), 'KVM_GET_FPU');
  const msr = new Uint8Array(MSRS.size + MSR_ENTRY.size);
  const msrView = viewOf(msr);
  msrView.setUint32(MSRS.nmsrs, 1, true);
  msrView.setUint32(MSRS.size + MSR_ENTRY.index, MSR_KERNEL_GS_BASE, true);
  // A KVM that does not know the MSR reads none, and its value stays 0.
  checked(libc.ioctl(vcpuFd, STATE_IOCTL.getMsrs, msr), 'KVM_GET_MSRS');
  return { regs: readRegs(vcpuFd), sregs: readSregs(vcpuFd), fpu: viewOf(fpuBlock), msr: msrView };
}

export function pagingOf(block: DataView): PagingRegisters {
  const value = (offset: number) => block.getBigUint64(offset, true);
  return {
    cr0: value(SREGS.cr0),
    cr3: value(SREGS.cr3),
    cr4: value(SREGS.cr4),
    efer: value(SREGS.efer),
  };
}

/** All registers, in the order of their numbers. */
export function encodeRegisters(blocks: VcpuBlocks): Uint8Array {
  const all = new Uint8Array(GDB_REGISTERS_BYTES);
  GDB_REGISTERS.forEach(({ offset }, number) => all.set(encodeRegister(blocks, number)!, offset));
  return all;
}

/** undefined for a number without a register. */
export function encodeRegister(blocks: VcpuBlocks, number: number): Uint8Array | undefined {
  const register = GDB_REGISTERS[number];
  if (!register) return undefined;
  const bytes = new Uint8Array(register.bytes);
  const field = FIELDS[register.name];
  if (register.name === 'rip') viewOf(bytes).setBigUint64(0, linearRip(blocks), true);
  else if (register.name === 'ftag') viewOf(bytes).setUint32(0, tagWord(blocks.fpu), true);
  // Selectors of x87 instruction and data pointers are not kept in 64-bit mode; KVM has none.
  else if (field) bytes.set(bytesOf(blocks, field));
  return bytes;
}

/** Of the next instruction. */
export function linearRip(blocks: Pick<VcpuBlocks, 'regs' | 'sregs'>): bigint {
  return BigInt.asUintN(64, blocks.regs.getBigUint64(REGS.rip, true) + codeBase(blocks.sregs));
}

/** In 64-bit mode the base of CS is not used. (SDM 3A §3.4.4) */
function codeBase(block: DataView): bigint {
  const isLong = (block.getBigUint64(SREGS.efer, true) & EFER_LMA) !== 0n;
  if (isLong && block.getUint8(SREGS.cs + SEGMENT.l) !== 0) return 0n;
  return block.getBigUint64(SREGS.cs + SEGMENT.base, true);
}

/** The x87 tag word, of the bits that say which registers are not empty: valid 0, empty 3. */
function tagWord(block: DataView): number {
  const used = block.getUint8(FPU_FIELD.ftwx);
  let word = 0;
  for (let i = 0; i < 8; i++) if ((used & (1 << i)) === 0) word |= 3 << (2 * i);
  return word;
}

function bytesOf(blocks: VcpuBlocks, { in: block, offset, bytes }: Field): Uint8Array {
  const view = blocks[block];
  return new Uint8Array(view.buffer, view.byteOffset + offset, bytes);
}

/**
 * Writes one register; false for one that cannot be written so: a segment's selector in protected mode, whose
 * descriptor would not follow, and what KVM does not have. Throws SyscallError for a value that KVM refuses.
 */
export function writeRegister(vcpuFd: number, number: number, value: Uint8Array): boolean {
  const register = GDB_REGISTERS[number];
  if (!register || value.length !== register.bytes) return false;
  const blocks = readBlocks(vcpuFd);
  if (!change(blocks, register.name, value)) return false;
  writeBlock(vcpuFd, blocks, blockOf(register.name));
  return true;
}

/** Writes those of a `G` packet that differ. False if one of them cannot be written; others may have been. */
export function writeRegisters(vcpuFd: number, all: Uint8Array): boolean {
  if (all.length !== GDB_REGISTERS_BYTES) return false;
  const before = encodeRegisters(readBlocks(vcpuFd));
  return GDB_REGISTERS.every(({ offset, bytes }, number) => {
    const value = all.subarray(offset, offset + bytes);
    const isSame = value.every((byte, i) => byte === before[offset + i]);
    return isSame || writeRegister(vcpuFd, number, value);
  });
}

function blockOf(name: string): Field['in'] {
  return name === 'ftag' ? 'fpu' : FIELDS[name]!.in;
}

function change(blocks: VcpuBlocks, name: string, value: Uint8Array): boolean {
  const view = viewOf(value);
  if (name === 'rip') {
    const rip = BigInt.asUintN(64, view.getBigUint64(0, true) - codeBase(blocks.sregs));
    blocks.regs.setBigUint64(REGS.rip, rip, true);
    return true;
  }
  if (name === 'ftag') {
    const word = view.getUint32(0, true);
    let used = 0;
    for (let i = 0; i < 8; i++) if (((word >> (2 * i)) & 3) !== 3) used |= 1 << i;
    blocks.fpu.setUint8(FPU_FIELD.ftwx, used);
    return true;
  }
  const field = FIELDS[name];
  if (!field) return false;
  if (isSelector(name)) {
    if ((blocks.sregs.getBigUint64(SREGS.cr0, true) & CR0_PE) !== 0n) return false;
    blocks.sregs.setBigUint64(SREGS[name] + SEGMENT.base, BigInt(view.getUint16(0, true)) << 4n, true);
  }
  bytesOf(blocks, field).set(value.subarray(0, field.bytes));
  return true;
}

function isSelector(name: string): name is (typeof SELECTORS)[number] {
  return (SELECTORS as readonly string[]).includes(name);
}

function writeBlock(vcpuFd: number, blocks: VcpuBlocks, which: Field['in']): void {
  const view = blocks[which];
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const [request, call] = SETTERS[which];
  // SAFETY: a structure of the size that KVM expects, which it reads only during the call.
  checked(libc.ioctl(vcpuFd, request, bytes), call);
}

const SETTERS: Readonly<Record<Field['in'], readonly [request: number, call: string]>> = {
  regs: [IOCTL.setRegs, 'KVM_SET_REGS'],
  sregs: [IOCTL.setSregs, 'KVM_SET_SREGS'],
  fpu: [IOCTL.setFpu, 'KVM_SET_FPU'],
  msr: [IOCTL.setMsrs, 'KVM_SET_MSRS'],
};
