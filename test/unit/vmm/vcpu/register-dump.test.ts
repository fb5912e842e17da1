/** What is said of a vCPU by its registers, without KVM. */
import { expect, test } from 'bun:test';
import { KVM_MP_STATE, REGS, SEGMENT, SREGS } from '../../../../src/kvm/abi.ts';
import { describeVcpuState, dumpRegisters, isResetState } from '../../../../src/vmm/vcpu/register-dump.ts';

function createRegisters({ rip = 0xfff0, csSelector = 0xf000, csBase = 0xffff_0000 }) {
  const regs = new DataView(new ArrayBuffer(REGS.size));
  const sregs = new DataView(new ArrayBuffer(SREGS.size));
  regs.setBigUint64(REGS.rip, BigInt(rip), true);
  regs.setBigUint64(REGS.rflags, 2n, true);
  sregs.setUint16(SREGS.cs + SEGMENT.selector, csSelector, true);
  sregs.setBigUint64(SREGS.cs + SEGMENT.base, BigInt(csBase), true);
  return [regs, sregs] as const;
}

test.each([
  ['after a reset', {}, true],
  ['after a far jump to the reset vector', { csBase: 0xf_0000 }, false],
  ['at the same offset elsewhere', { csSelector: 0x10, csBase: 0 }, false],
  ['one instruction on', { rip: 0xfff1 }, false],
])('registers %s: is it the state after a reset?', (_, changes, expected) => {
  const [regs, sregs] = createRegisters(changes);
  expect(isResetState(regs, sregs)).toBe(expected);
});

test('a runnable vCPU in the state after a reset has lost its own', () => {
  const [regs, sregs] = createRegisters({});
  const { runnable, uninitialized } = KVM_MP_STATE;
  expect(describeVcpuState(runnable, regs, sregs)).toBe('reset by KVM, its state is lost');
  expect(describeVcpuState(uninitialized, regs, sregs)).toBe('never started (waiting for INIT), RIP 0xfff0');
});

test('a dump has every general register; special ones where they are known', () => {
  const [regs, sregs] = createRegisters({});
  const general = dumpRegisters(regs);
  const all = dumpRegisters(regs, sregs);
  expect(general.rip).toBe('0xfff0');
  expect(general.lines).toHaveLength(5);
  expect(all.lines).toHaveLength(8);
  expect(all.lines[6]).toStartWith('cs f000@ffff0000  ss 0000@0');
});
