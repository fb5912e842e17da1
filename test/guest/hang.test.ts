/** Guests that hang are reported, and those that do not are left alone. All of it needs /dev/kvm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { VmEvent } from '../../src/api/index.ts';
import { kvmOpens } from '../cli/volt-process.ts';
import { runGuest, waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest, NMI_VECTOR } from './interrupt-guest.ts';
import { tinyMachine, type Running } from './running.ts';
import { asm, LOAD_ADDRESS, program, u32 } from './tiny-guest.ts';

/** For hangs of the tests only. */
setDefaultTimeout(60_000);

const SECONDS = 0.3;
/** Long enough for several reports, if there were to be any. */
const PATIENCE_MS = 8 * SECONDS * 1000;
const up = asm.print('up');

type Hang = Extract<VmEvent, { kind: 'hang' }>;

async function watched(code: Uint8Array, cpus = 1): Promise<Running> {
  const running = await tinyMachine(code, cpus);
  running.control.reportHangs(SECONDS);
  await waitUntil('output', () => running.output.startsWith('up'));
  return running;
}

const hangsOf = (running: Running) => running.events.filter((event): event is Hang => event.kind === 'hang');
const hung = async (running: Running, count = 1) => {
  await waitUntil('the report', () => hangsOf(running).length >= count);
  return hangsOf(running)[count - 1]!;
};
const reasons = ({ vcpus }: Hang) => vcpus.map(({ why }) => why);

describe.skipIf(!kvmOpens)('a guest that hangs (needs /dev/kvm)', () => {
  test('halts with interrupts off', async () => {
    await using running = await watched(program(up, asm.halt()));
    const hang = await hung(running);

    expect(hang).toMatchObject({
      seconds: SECONDS,
      vcpus: [{ index: 0, why: 'halted-for-good', state: 'halted' }],
    });
    expect(Number(hang.vcpus[0]!.rip)).toBeGreaterThan(LOAD_ADDRESS);
  });

  test('jumps to the same place with interrupts off', async () => {
    await using running = await watched(program(up, asm.spin()));
    expect(await hung(running)).toMatchObject({
      vcpus: [{ why: 'spins', state: 'running', rip: `0x${(LOAD_ADDRESS + up.length).toString(16)}` }],
    });
  });

  test('waits with interrupts off for a lock that nobody will give back', async () => {
    const lock = 0x20_0000;
    // mov dword [lock], 1; pause; mov eax, [lock]; test eax, eax; jnz to pause
    const wait = [0xf3, 0x90, ...asm.readEax(lock), 0x85, 0xc0, 0x75, 0xf5];
    await using running = await watched(program(up, asm.loadEax(1), asm.storeEax(lock), wait));
    expect(reasons(await hung(running))).toEqual(['spins']);
  });

  test('has one CPU halted for good and others that nobody starts', async () => {
    await using running = await watched(program(up, asm.halt()), 3);
    expect(reasons(await hung(running))).toEqual(['halted-for-good', 'waits-for-sipi', 'waits-for-sipi']);
  });

  test('has one CPU that spins and one that is halted for good', async () => {
    const code = interruptGuest({
      bsp: [...up, ...asm.spin()],
      ap: [...asm.print('!'), ...asm.halt()],
      handlers: {},
    });
    await using running = await watched(code, 2);
    running.control.startAp(1, 8);
    await waitUntil('the AP', () => running.output === 'up!');

    expect(reasons(await hung(running, hangsOf(running).length + 1))).toEqual(['spins', 'halted-for-good']);
  });

  test('is reported once, and again after it went on and stopped again', async () => {
    const code = interruptGuest({
      bsp: [...up, ...asm.halt()],
      handlers: { [NMI_VECTOR]: asm.print('!') },
    });
    await using running = await watched(code);
    await hung(running);
    await Bun.sleep(PATIENCE_MS);
    const before = hangsOf(running).length;

    running.control.sendIpi({ destination: 0, mode: 'nmi' });
    await waitUntil('the NMI', () => running.output === 'up!');
    await hung(running, 2);

    expect(before).toBe(1);
  });

  test('is said to hang on stderr, by its symbols', async () => {
    const code = program(up, asm.halt());
    const child = runGuest(code, ['--hang-report', '0.2', '--cpus', '2'], { hangMs: 5000 });
    const { stderr } = await child;

    expect(stderr).toMatch(
      /^volt: the guest hangs: no vCPU has made progress for 0\.2 s\nvolt: {3}vCPU 0: halted with interrupts off, RIP 0x1000[0-9a-f]{2}\nvolt: {3}vCPU 1: waits for a SIPI, RIP 0xfff0\n/,
    );
  });
});

describe.skipIf(!kvmOpens)('a guest that does not hang (needs /dev/kvm)', () => {
  const TIMER = 0x40;
  const TICKS = 0x20_0000;
  // inc dword [TICKS]; cmp dword [TICKS], 50; print at that tick alone, to show that they come
  const tick = [
    0xff,
    0x05,
    ...u32(TICKS),
    0x81,
    0x3d,
    ...u32(TICKS),
    ...u32(50),
    ...asm.ifZero(asm.print('up')),
  ];
  const ticking = interruptGuest({
    bsp: [...interruptAsm.startTimer(TIMER), ...interruptAsm.idle],
    handlers: { [TIMER]: [...tick, ...interruptAsm.endOfInterrupt] },
  });
  const waiting = interruptGuest({ bsp: [...up, ...interruptAsm.idle], handlers: {} });

  test.each([
    ['idles, and its timer wakes it up inside KVM', ticking, 1],
    ['waits with interrupts on for something that never happens', waiting, 1],
    ['has a CPU that waits for interrupts beside one that nobody starts', waiting, 2],
    ['counts with interrupts off', program(up, [0x41, 0xeb, 0xfd]), 1], // inc ecx; jmp back
    ['polls a device', program(up, asm.forEver(asm.in8(0x3fd))), 1],
  ] as const)('%s', async (_, code, cpus) => {
    await using running = await watched(code, cpus);
    await Bun.sleep(PATIENCE_MS);

    expect(hangsOf(running)).toEqual([]);
    expect(running.control.status().state).toBe('running');
  });

  test('is paused, and it is looked at again when it is resumed', async () => {
    await using running = await tinyMachine(program(up, asm.spin()), 1);
    await waitUntil('output', () => running.output === 'up');
    await running.control.pause();
    running.control.reportHangs(SECONDS);
    await Bun.sleep(PATIENCE_MS);
    const whilePaused = hangsOf(running);
    await running.control.resume();
    await hung(running);

    expect(whilePaused).toEqual([]);
  });

  test('is not disturbed in pausing and resuming by being looked at', async () => {
    await using running = await tinyMachine(program(up, asm.spin()), 1);
    running.control.reportHangs(0.003);
    await waitUntil('output', () => running.output === 'up');

    for (let round = 0; round < 300; round++) {
      await running.control.pause();
      expect(running.control.vcpus()[0]!.state).toBe('paused');
      await running.control.resume();
    }

    expect(running.control.vcpus()[0]!.state).toBe('running');
  });

  test('is never said to hang when nobody wants to know', async () => {
    const { stderr } = await runGuest(program(up, asm.halt()), ['--hang-report', 'off'], { hangMs: 2000 });
    expect(stderr).not.toContain('hangs');
  });
});
