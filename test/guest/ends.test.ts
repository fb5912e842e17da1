/** How guests end, and what volt's exit code and stderr then say. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { runGuest } from './guest-run.ts';
import { asm, buildPvhElf, LOAD_ADDRESS, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const NEVER_REACHED = asm.exit(9);
const readRtcSeconds = [...asm.out8(0x70, 0), ...asm.in8(0x71)];
/** mov bl, al; until another second: sub al, bl; cmp al, 1; sbb eax, eax */
const waitForRtcTick = [
  ...readRtcSeconds,
  ...[0x88, 0xc3],
  ...asm.untilZero([...readRtcSeconds, 0x28, 0xd8, 0x3c, 0x01, 0x19, 0xc0]),
];

describe.skipIf(!kvmOpens)('a guest that ends itself (needs /dev/kvm)', () => {
  test('prints and leaves with status 0: its text and nothing else', async () => {
    const { stdout, stderr, exitCode } = await runGuest(program(asm.print('hello, world\n'), asm.exit(0)));

    expect(stdout).toBe('hello, world\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.each([
    ['command 0xFE of the i8042', asm.out8(0x64, 0xfe)],
    ['the output port of the i8042', [...asm.out8(0x64, 0xd1), ...asm.out8(0x60, 0xfe)]],
    ['the reset control at 0xCF9', asm.out8(0xcf9, 0x06)],
    ['system control port A', asm.out8(0x92, 0x01)],
    ['S5 by the sleep control register', asm.out8(0x600, 0x34)],
    ['SLP_EN at 0x604', asm.out16(0x604, 0x2000)],
    ['SLP_EN with a sleep type at 0x604', asm.out16(0x604, 0x3400)],
  ])('by %s: exit code 0', async (_, code) => {
    const { stdout, stderr, exitCode } = await runGuest(program(asm.print('.'), code, NEVER_REACHED));

    expect(stdout).toBe('.');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test('by a jump to the reset vector in real mode, where an AP starts', async () => {
    const jump = [0xea, 0xf0, 0xff, 0x00, 0xf0, 0x90, 0x90, 0x90]; // jmp 0xf000:0xfff0
    const copy = [0, 4].flatMap((at) => [
      ...asm.loadEax(Buffer.from(jump).readUInt32LE(at)),
      ...asm.storeEax(0x8000 + at),
    ]);
    const enableApic = [...asm.loadEax(0x1ff), ...asm.storeEax(0xfee0_00f0)];
    const sendToOthers = (command: number) => [
      ...asm.loadEax(0xc_0000 | command),
      ...asm.storeEax(0xfee0_0300),
    ];
    const code = program(copy, enableApic, sendToOthers(0x4500), sendToOthers(0x4608), asm.halt());

    const { stderr, exitCode } = await runGuest(code, ['--cpus', '2']);

    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  test.each([
    ['at once', []],
    ['after three seconds by the RTC', [...waitForRtcTick, ...waitForRtcTick, ...waitForRtcTick]],
  ])('by a reset %s, again and again: it is started anew a few times, and then no more', async (_, wait) => {
    using folder = new TemporaryFolder();
    const path = await folder.write(
      'kernel',
      buildPvhElf(program(wait, asm.print('.'), asm.out8(0x64, 0xfe), NEVER_REACHED)),
    );

    const { stdout, stderr, exitCode } = await runVolt(['--kernel', path, '--memory', '32M', '--cpus', '2']);

    expect(stdout).toBe('.....');
    expect(stderr).toMatch(/^volt: the guest has reset itself 5 times within \d+ s; ending it .*\n$/);
    expect(exitCode).toBe(1);
  });

  test.each([
    ['another command of the i8042', asm.out8(0x64, 0xff)],
    ['0xCF9 without the reset bit', asm.out8(0xcf9, 0x02)],
    ['the PCI address register, which covers 0xCF9', asm.out32(0xcf8, 0xffff_ffff)],
    ['port A with A20 alone', asm.out8(0x92, 0x02)],
    ['0x604 without SLP_EN', asm.out16(0x604, 0x1c00)],
    ['a sleep state that there is none of', asm.out8(0x600, 0x2c)],
    ['S5 without SLP_EN', asm.out8(0x600, 0x14)],
  ])('does not end by %s', async (_, code) => {
    const { stdout, exitCode } = await runGuest(program(code, asm.print('still here'), asm.exit(0)));

    expect(stdout).toBe('still here');
    expect(exitCode).toBe(0);
  });

  test.each([
    [1, 65],
    [2, 66],
    [61, 125],
    [62, 125],
    [255, 125],
    [0xffff_ffff, 125],
  ])('with status %d: exit code %d and a line', async (status, code) => {
    const { stderr, exitCode } = await runGuest(program(asm.exit(status)));

    expect(stderr.split('\n')[0]).toBe(`volt: guest reported failure: status ${status} from vCPU 0`);
    expect(exitCode).toBe(code);
  });

  test.each([
    [0, 1],
    [1, 3],
    [38, 77],
    [255, 255],
  ])("with status %d and --exit-code qemu: %d, as with QEMU's isa-debug-exit", async (status, code) => {
    const { stderr, exitCode } = await runGuest(program(asm.exit(status)), ['--exit-code', 'qemu']);

    expect(stderr.includes('guest reported failure')).toBe(status !== 0);
    expect(exitCode).toBe(code);
  });

  test('with a status of one byte or two: the same as with four', async () => {
    const byte = await runGuest(program(asm.out8(0xf4, 5)));
    const word = await runGuest(program(asm.out16(0xf4, 5)));

    expect([byte.exitCode, word.exitCode]).toEqual([69, 69]);
  });
});

describe.skipIf(!kvmOpens)('a guest that crashes (needs /dev/kvm)', () => {
  test('with a triple fault: exit code 3, in words, with RIP, registers and every vCPU', async () => {
    const before = program(asm.print('before\n'), asm.loadEax(0x1234_abcd));
    const undefinedInstruction = [0x0f, 0x0b];

    const { stdout, stderr, exitCode } = await runGuest(program([...before], undefinedInstruction), [
      '--cpus',
      '2',
    ]);

    const rip = (LOAD_ADDRESS + before.length).toString(16);
    const lines = stderr.trimEnd().split('\n');
    expect(stdout).toBe('before\n');
    expect(lines[0]).toBe(
      `volt: guest crashed: triple fault on vCPU 0 at RIP 0x${rip} (an exception that its own handlers could not take)`,
    );
    expect(lines[1]).toMatch(new RegExp(`^volt: {3}rip {4}${rip.padStart(16, '0')} {2}rflags [0-9a-f]{16} `));
    expect(stderr).toContain('rax    000000001234abcd');
    expect(stderr).toMatch(/cr0 0{14}11 {2}cr2 0{16} {2}cr3 0{16} {2}cr4 0{16} {2}efer 0{16}\n/);
    expect(stderr).toMatch(/cs 0010@0 {2}ss 0018@0 {2}ds 0018@0/);
    expect(lines.at(-2)).toMatch(/^volt: {3}vCPU 0: running, RIP 0x/);
    expect(lines.at(-1)).toMatch(/^volt: {3}vCPU 1: never started \(waiting for INIT\), RIP 0xfff0$/);
    expect(lines.every((line) => line.startsWith('volt: '))).toBe(true);
    expect(exitCode).toBe(3);
  });
});

/** Whether ring 0 is emulated here, told by an instruction that the emulator does not know. */
const POPCNT = [0xf3, 0x0f, 0xb8, 0xc0];
const emulated = kvmOpens && (await runGuest(program(POPCNT, asm.exit(0)))).exitCode !== 0;

describe('SSE in ring 0', () => {
  /** CR4 |= OSFXSR | OSXMMEXCPT */
  const ENABLE_SSE = [0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x00, 0x00, 0x0f, 0x22, 0xe0];
  const XORPS = [0x0f, 0x57, 0xc0];

  test.skipIf(!kvmOpens || emulated)(
    'runs where the processor runs it (needs a /dev/kvm that does not emulate ring 0)',
    async () => {
      const { stderr, exitCode } = await runGuest(program(ENABLE_SSE, XORPS, asm.exit(0)));

      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
  );

  test.skipIf(!emulated)(
    'ends with exit code 4 and its bytes where KVM emulates it (needs a /dev/kvm that emulates ring 0)',
    async () => {
      const { stderr, exitCode } = await runGuest(program(ENABLE_SSE, XORPS, asm.exit(0)));

      const rip = (LOAD_ADDRESS + ENABLE_SSE.length).toString(16);
      const lines = stderr.split('\n');
      expect(lines[0]).toBe(
        `volt: guest stopped: KVM's instruction emulator does not know an instruction that it had to emulate, on vCPU 0 at RIP 0x${rip}`,
      );
      expect(lines[1]).toBe('volt:   internal error 1');
      expect(lines[2]).toMatch(/^volt: {3}instruction bytes 0f 57 c0( [0-9a-f]{2})*$/);
      expect(lines[3]).toMatch(/^volt: {3}rip {4}0{10}[0-9a-f]{6} {2}rflags/);
      expect(exitCode).toBe(4);
    },
  );
});

describe.skipIf(!kvmOpens)('a guest that jumps to where nothing is (needs /dev/kvm)', () => {
  test('ends with exit code 4 and the address it jumped to', async () => {
    const jump = [...asm.loadEax(0xd000_0000), 0xff, 0xe0]; // jmp eax

    const { stderr, exitCode } = await runGuest(program(jump));

    expect(stderr.split('\n')[0]).toMatch(/^volt: guest stopped: .*, on vCPU 0 at RIP 0xd0000000$/);
    expect(exitCode).toBe(4);
  });
});
