/** The registers of a vCPU as text, for reports of guest crashes. */
import { DTABLE, KVM_MP_STATE, REGS, SEGMENT, SREGS } from '../../kvm/abi.ts';
import { readMpState, readRegs, readSregs } from '../../kvm/vcpu.ts';
import type { RegisterDump } from './report.ts';

const GENERAL_ROWS = [
  ['rip', 'rflags', 'rsp', 'rbp'],
  ['rax', 'rbx', 'rcx', 'rdx'],
  ['rsi', 'rdi', 'r8', 'r9'],
  ['r10', 'r11', 'r12', 'r13'],
  ['r14', 'r15'],
] as const;
const CONTROL_ROW = ['cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const;
const SEGMENTS = ['cs', 'ss', 'ds', 'es', 'fs', 'gs', 'tr'] as const;
const DESCRIPTOR_TABLES = ['gdt', 'idt'] as const;

/** `regs` and `sregs` by the offsets of REGS and SREGS; without `sregs` the general registers alone. */
export function dumpRegisters(regs: DataView, sregs?: DataView): RegisterDump {
  const lines = GENERAL_ROWS.map((row) =>
    row.map((name) => `${name.padEnd(6)} ${hex64(regs, REGS[name])}`).join('  '),
  );
  if (sregs) lines.push(...dumpSpecial(sregs));
  return { rip: `0x${regs.getBigUint64(REGS.rip, true).toString(16)}`, lines };
}

function dumpSpecial(sregs: DataView): string[] {
  const segment = (name: (typeof SEGMENTS)[number]) => {
    const selector = sregs.getUint16(SREGS[name] + SEGMENT.selector, true);
    const base = sregs.getBigUint64(SREGS[name] + SEGMENT.base, true);
    return `${name} ${selector.toString(16).padStart(4, '0')}@${base.toString(16)}`;
  };
  const table = (name: (typeof DESCRIPTOR_TABLES)[number]) => {
    const limit = sregs.getUint16(SREGS[name] + DTABLE.limit, true);
    return `${name} ${hex64(sregs, SREGS[name] + DTABLE.base)}+${limit.toString(16)}`;
  };
  return [
    CONTROL_ROW.map((name) => `${name} ${hex64(sregs, SREGS[name])}`).join('  '),
    SEGMENTS.map(segment).join('  '),
    DESCRIPTOR_TABLES.map(table).join('  '),
  ];
}

function hex64(view: DataView, offset: number): string {
  return view.getBigUint64(offset, true).toString(16).padStart(16, '0');
}

const RESET_RIP = 0xfff0n;
const RESET_CS = { selector: 0xf000, base: 0xffff_0000n } as const;
/** RFLAGS with nothing set but bit 1, which always is. */
const RESET_RFLAGS = 2n;

/**
 * Whether the registers are those after a reset. No guest brings itself there: a far jump to the reset vector
 * loads CS with base 0xF0000. (SDM 3A table 10-1)
 */
export function isResetState(regs: DataView, sregs: DataView): boolean {
  return (
    regs.getBigUint64(REGS.rip, true) === RESET_RIP &&
    regs.getBigUint64(REGS.rflags, true) === RESET_RFLAGS &&
    sregs.getUint16(SREGS.cs + SEGMENT.selector, true) === RESET_CS.selector &&
    sregs.getBigUint64(SREGS.cs + SEGMENT.base, true) === RESET_CS.base
  );
}

/** KVM's MP states in words. */
const MP_STATE_WORDS: Readonly<Record<number, string>> = {
  [KVM_MP_STATE.runnable]: 'running',
  [KVM_MP_STATE.uninitialized]: 'never started (waiting for INIT)',
  [KVM_MP_STATE.initReceived]: 'waiting for SIPI',
  [KVM_MP_STATE.halted]: 'halted',
  [KVM_MP_STATE.sipiReceived]: 'starting (SIPI received)',
};

/** `halted, RIP 0x1000`: state of a vCPU that is out of KVM_RUN. Never throws: KVM may have lost the vCPU. */
export function readVcpuState(vcpuFd: number): string {
  try {
    return describeVcpuState(readMpState(vcpuFd), readRegs(vcpuFd), readSregs(vcpuFd));
  } catch (error) {
    return `unknown (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Of a vCPU that has run, as all have that are runnable. */
export function describeVcpuState(mpState: number, regs: DataView, sregs: DataView): string {
  if (mpState === KVM_MP_STATE.runnable && isResetState(regs, sregs))
    return 'reset by KVM, its state is lost';
  const words = MP_STATE_WORDS[mpState] ?? `in MP state ${mpState}`;
  return `${words}, RIP 0x${regs.getBigUint64(REGS.rip, true).toString(16)}`;
}
