/** From one vCPU to as many as MP tables can name: all are made, and the APs wait as long as nobody starts them. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens } from '../cli/volt-process.ts';
import { runGuest } from './guest-run.ts';
import { asm, program } from './tiny-guest.ts';

setDefaultTimeout(240_000);

const HANG_MS = 180_000;
const readApicId = [...asm.readEax(0xfee0_0020), 0xc1, 0xe8, 0x18]; // shr eax, 24

describe.skipIf(!kvmOpens)('vCPUs (needs /dev/kvm)', () => {
  test.each([1, 2, 64, 254])('%d: the BSP runs, every AP is never started', async (cpus) => {
    const code = program(asm.print('id '), [...readApicId, ...asm.printEax(1)], asm.exit(0));

    const { bytes, stderr, exitCode } = await runGuest(
      code,
      ['--cpus', String(cpus), '--log-level', 'info'],
      {
        hangMs: HANG_MS,
      },
    );

    const states = stderr.split('\n').filter((line) => line.startsWith('volt:   vCPU '));
    const waiting = Array.from(
      { length: cpus - 1 },
      (_, i) => `volt:   vCPU ${i + 1}: never started (waiting for INIT), RIP 0xfff0`,
    );
    expect(Buffer.from(bytes).toString('latin1')).toBe('id \0');
    expect(states[0]).toMatch(/^volt: {3}vCPU 0: running, RIP 0x1000[0-9a-f]{2}$/);
    expect(states.slice(1)).toEqual(waiting);
    expect(exitCode).toBe(0);
  });

  test.each([
    ['255 vCPUs there may be: xAPIC', '1,max=255', 0xfee0_0900],
    ['256: x2APIC, without which Linux would leave the last one out', '1,max=256', 0xfee0_0d00],
  ])('the mode of the APIC at the start, %s', async (_, cpus, expected) => {
    const readApicBase = [0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32]; // mov ecx, 0x1b; rdmsr
    const code = program(readApicBase, asm.printEax(4), asm.exit(0));

    const { bytes, stderr } = await runGuest(code, ['--cpus', cpus]);

    expect(stderr).toBe('');
    expect(Buffer.from(bytes).readUInt32LE(0)).toBe(expected);
  });

  test('an AP that is sent INIT waits for its SIPI; one that is sent both runs from there', async () => {
    const APIC_ENABLE = [...asm.loadEax(0x1ff), ...asm.storeEax(0xfee0_00f0)];
    const sendTo = (id: number, command: number) => [
      ...[...asm.loadEax(id * 2 ** 24), ...asm.storeEax(0xfee0_0310)],
      ...[...asm.loadEax(command), ...asm.storeEax(0xfee0_0300)],
    ];
    const INIT = 0x4500;
    const STARTUP_AT_0X8000 = 0x4608;
    const FLAG = 0x8100;
    // mov byte cs:[0x100], 1; cli; hlt; jmp back (real mode, CS = 0x800)
    const trampoline = [0x2e, 0xc6, 0x06, 0x00, 0x01, 0x01, 0xfa, 0xf4, 0xeb, 0xfd, 0x90, 0x90];
    const words = [0, 4, 8].map((at) => Buffer.from(trampoline).readUInt32LE(at));
    const copy = words.flatMap((word, i) => [...asm.loadEax(word), ...asm.storeEax(0x8000 + 4 * i)]);
    const waitForFlag = asm.untilZero([0xa0, ...[0x00, 0x81, 0x00, 0x00], 0x34, 0x01]); // mov al, [flag]; xor al, 1
    const code = program(
      [...asm.loadEax(0), ...asm.storeEax(FLAG), ...copy, ...APIC_ENABLE],
      [...sendTo(1, INIT), ...sendTo(2, INIT), ...sendTo(1, STARTUP_AT_0X8000)],
      [...waitForFlag, ...asm.print('started'), ...asm.exit(0)],
    );

    const { stdout, stderr, exitCode } = await runGuest(code, ['--cpus', '4', '--log-level', 'info']);

    expect(stdout).toBe('started');
    expect(stderr).toMatch(/vCPU 1: (halted|running), RIP 0x[0-9a-f]+\n/);
    expect(stderr).toMatch(/vCPU 2: waiting for SIPI, RIP 0x[0-9a-f]+\n/);
    expect(stderr).toContain('vCPU 3: never started (waiting for INIT), RIP 0xfff0\n');
    expect(exitCode).toBe(0);
  });
});
