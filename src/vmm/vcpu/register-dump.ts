/** The registers of a stopped vCPU as text, for reports of guest crashes. */
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

/** Reads them through KVM; the calling thread must be the vCPU's own, or the vCPU out of KVM_RUN. */
export function dumpRegisters(vcpuFd: number): RegisterDump {
  const regs = readRegs(vcpuFd);
  const sregs = readSregs(vcpuFd);
  const hex64 = (view: DataView, offset: number) =>
    view.getBigUint64(offset, true).toString(16).padStart(16, '0');
  const lines = GENERAL_ROWS.map((row) =>
    row.map((name) => `${name.padEnd(6)} ${hex64(regs, REGS[name])}`).join('  '),
  );
  lines.push(CONTROL_ROW.map((name) => `${name} ${hex64(sregs, SREGS[name])}`).join('  '));
  lines.push(
    SEGMENTS.map((name) => {
      const at = SREGS[name];
      const selector = sregs
        .getUint16(at + SEGMENT.selector, true)
        .toString(16)
        .padStart(4, '0');
      const base = sregs.getBigUint64(at + SEGMENT.base, true).toString(16);
      return `${name} ${selector}@${base}`;
    }).join('  '),
  );
  lines.push(
    (['gdt', 'idt'] as const)
      .map(
        (name) =>
          `${name} ${hex64(sregs, SREGS[name] + DTABLE.base)}+${sregs.getUint16(SREGS[name] + DTABLE.limit, true).toString(16)}`,
      )
      .join('  '),
  );
  return { rip: `0x${regs.getBigUint64(REGS.rip, true).toString(16)}`, lines };
}

/** KVM's MP states in words. */
const MP_STATE_WORDS: Readonly<Record<number, string>> = {
  [KVM_MP_STATE.runnable]: 'running',
  [KVM_MP_STATE.uninitialized]: 'never started (waiting for INIT)',
  [KVM_MP_STATE.initReceived]: 'waiting for SIPI',
  [KVM_MP_STATE.halted]: 'halted',
  [KVM_MP_STATE.sipiReceived]: 'starting (SIPI received)',
};

/** `halted, RIP 0x1000`: where a vCPU that is out of KVM_RUN was. Never throws: KVM may have lost the vCPU. */
export function readVcpuState(vcpuFd: number): string {
  try {
    const state = readMpState(vcpuFd);
    const words = MP_STATE_WORDS[state] ?? `in MP state ${state}`;
    return `${words}, RIP 0x${readRegs(vcpuFd).getBigUint64(REGS.rip, true).toString(16)}`;
  } catch (error) {
    return `unknown (${error instanceof Error ? error.message : String(error)})`;
  }
}
