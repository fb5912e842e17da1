import { describe, expect, test } from 'bun:test';
import { describeEnd, EXIT_CODE } from '../../../src/vmm/vm-end.ts';

const REGISTERS = { rip: '0xfff0', lines: ['rip    000000000000fff0', 'cr0 11'] };

test('exit codes are those that the documentation promises', () => {
  expect(EXIT_CODE).toEqual({ ok: 0, failed: 1, usage: 2, tripleFault: 3, kvmFailure: 4, guestStatus: 64 });
});

describe('a guest that ended itself', () => {
  test.each(['stopped', 'reset', 'power-off'] as const)('by %s is success, without a word', (kind) => {
    expect(describeEnd(1, { kind }, [])).toEqual({ kind, exitCode: 0, vcpu: 1, lines: [], states: [] });
  });

  test('with status 0 is success, without a word', () => {
    const end = describeEnd(0, { kind: 'guest-exit', status: 0 }, []);
    expect([end.exitCode, end.lines]).toEqual([0, []]);
  });

  test.each([
    [1, 65],
    [61, 125],
    [62, 125],
    [0xffff_ffff, 125],
  ])('with status %p has exit code %p', (status, exitCode) => {
    const end = describeEnd(3, { kind: 'guest-exit', status }, []);
    expect(end.exitCode).toBe(exitCode);
    expect(end.lines).toEqual([`guest reported failure: status ${status} from vCPU 3`]);
  });
});

describe('exit codes as with isa-debug-exit', () => {
  test.each([
    [0, 1],
    [1, 3],
    [38, 77],
    [62, 125],
    [127, 255],
    [128, 1],
    [0xffff_ffff, 255],
  ])('status %p becomes %p', (status, exitCode) => {
    expect(describeEnd(0, { kind: 'guest-exit', status }, [], 'qemu').exitCode).toBe(exitCode);
  });

  test('are for statuses alone, and change no words', () => {
    const [power, failure] = [{ kind: 'power-off' }, { kind: 'guest-exit', status: 1 }] as const;
    expect(describeEnd(0, power, [], 'qemu').exitCode).toBe(0);
    expect(describeEnd(0, failure, [], 'qemu').lines).toEqual(describeEnd(0, failure, []).lines);
  });
});

test('a triple fault is code 3, with where it was and the registers indented', () => {
  const end = describeEnd(1, { kind: 'triple-fault', registers: REGISTERS }, ['halted', 'running']);
  expect(end).toEqual({
    kind: 'triple-fault',
    exitCode: 3,
    vcpu: 1,
    lines: [
      'guest crashed: triple fault on vCPU 1 at RIP 0xfff0 (an exception that its own handlers could not take)',
      '  rip    000000000000fff0',
      '  cr0 11',
    ],
    states: ['vCPU 0: halted', 'vCPU 1: running'],
  });
});

describe('a triple fault with which KVM resets the vCPU', () => {
  const lost = { kind: 'triple-fault', registers: undefined } as const;

  test('is told without registers that are none', () => {
    const { lines, exitCode } = describeEnd(0, { ...lost, lastSample: undefined }, []);
    expect(exitCode).toBe(3);
    expect(lines).toEqual([
      'guest crashed: triple fault on vCPU 0 (an exception that its own handlers could not take)',
      "  its registers are lost: this host's KVM (AMD) resets a vCPU at a triple fault; volt ctl PID vcpus takes samples of a guest that runs",
    ]);
  });

  test('shows the last sample, with its age', () => {
    const lastSample = { rip: '0x1000', lines: ['rip 1000'], ageMs: 1234.5 };
    const { lines } = describeEnd(0, { ...lost, lastSample }, []);
    expect(lines).toEqual([
      'guest crashed: triple fault on vCPU 0, last seen at RIP 0x1000 (an exception that its own handlers could not take)',
      "  its registers are lost: this host's KVM (AMD) resets a vCPU at a triple fault",
      '  its last sample, 1.234 s before:',
      '  rip 1000',
    ]);
  });
});

test('a KVM failure is code 4, with details before registers', () => {
  const report = {
    kind: 'kvm-failure',
    what: 'it broke',
    details: ['data 0x1'],
    registers: REGISTERS,
  } as const;
  const end = describeEnd(0, report, []);
  expect(end.exitCode).toBe(4);
  expect(end.lines).toEqual([
    'guest stopped: it broke, on vCPU 0 at RIP 0xfff0',
    '  data 0x1',
    '  rip    000000000000fff0',
    '  cr0 11',
  ]);
});

test('a failure of Volt itself is code 1', () => {
  const end = describeEnd(2, { kind: 'failed', message: 'KVM_RUN failed: EFAULT' }, []);
  expect([end.exitCode, end.lines]).toEqual([1, ['Cannot run vCPU 2: KVM_RUN failed: EFAULT']]);
});
