/** Interrupts sent from outside arrive in a guest that takes them. All of it needs /dev/kvm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { IpiRequest } from '../../src/api/index.ts';
import { kvmOpens } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest, NMI_VECTOR } from './interrupt-guest.ts';
import { tinyMachine, type Running } from './running.ts';
import { asm } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

const VECTOR = 0x41;
const OTHER = 0xfe;
const PIC_BASE = 0x20;
const { idle, endOfInterrupt, printCpu, startPic } = interruptAsm;
/** On CPU 0 the first letter, on CPU 1 the next one. */
const handlers = {
  [VECTOR]: [...printCpu('a'), ...endOfInterrupt],
  [OTHER]: [...printCpu('A'), ...endOfInterrupt],
  [NMI_VECTOR]: printCpu('n'),
  [PIC_BASE + 3]: [...printCpu('x'), ...asm.out8(0x20, 0x20)],
};
const CPUS = 3;

/** Three CPUs that say 0, 1 and 2, and then print a letter for each interrupt. */
async function waitingMachine(): Promise<Running> {
  const say = printCpu('0');
  const code = interruptGuest({
    bsp: [...startPic(PIC_BASE), ...say, ...idle],
    ap: [...say, ...idle],
    handlers,
  });
  const running = await tinyMachine(code, CPUS);
  await waitUntil('the BSP', () => running.output === '0');
  for (let cpu = 1; cpu < CPUS; cpu++) {
    running.control.startAp(cpu, 8);
    await waitUntil(`CPU ${cpu}`, () => running.output.includes(String(cpu)));
  }
  return running;
}

const letters = (running: Running) => [...running.output.slice(CPUS)].sort().join('');

/** Sends, waits for so many letters, and then for any that should not have come. */
async function arrivals(running: Running, request: IpiRequest, count: number): Promise<string> {
  const before = running.output.length;
  running.control.sendIpi(request);
  await waitUntil('the interrupts', () => running.output.length >= before + count);
  await Bun.sleep(30);
  return [...running.output.slice(before)].sort().join('');
}

describe.skipIf(!kvmOpens)('an interrupt from outside arrives (needs /dev/kvm)', () => {
  test.each([
    ['fixed, to one', { destination: 1, mode: 'fixed', vector: VECTOR }, 'b'],
    ['fixed, to the BSP', { destination: 0, mode: 'fixed', vector: OTHER }, 'A'],
    ['fixed, to all', { destination: 'all', mode: 'fixed', vector: VECTOR }, 'abc'],
    ['fixed, to all but one', { destination: 'all-but', except: 1, mode: 'fixed', vector: OTHER }, 'AC'],
    ['fixed, edge', { destination: 2, mode: 'fixed', vector: VECTOR, trigger: 'edge', level: true }, 'c'],
    ['fixed, level', { destination: 2, mode: 'fixed', vector: VECTOR, trigger: 'level', level: true }, 'c'],
    ['lowest priority, to one', { destination: 2, mode: 'lowest-priority', vector: VECTOR }, 'c'],
    ['lowest priority, to all', { destination: 'all', mode: 'lowest-priority', vector: OTHER }, 'ABC'],
    ['NMI, to one', { destination: 1, mode: 'nmi' }, 'o'],
    ['NMI, to all', { destination: 'all', mode: 'nmi' }, 'nop'],
    ['NMI, to all but one', { destination: 'all-but', except: 0, mode: 'nmi' }, 'op'],
    ['ExtINT, by the 8259 to the BSP', { destination: 0, mode: 'extint', vector: 3 }, 'x'],
  ] as const)('%s', async (_, request, expected) => {
    await using running = await waitingMachine();
    expect(await arrivals(running, request, expected.length)).toBe(expected);
  });

  test.each(['edge', 'level'] as const)('again and again, each once, trigger %s', async (trigger) => {
    await using running = await waitingMachine();

    const rounds = 50;
    for (let round = 1; round <= rounds; round++) {
      running.control.sendIpi({ destination: 'all', mode: 'fixed', vector: VECTOR, trigger });
      await waitUntil('all three', () => letters(running).length >= 3 * round);
    }

    expect(letters(running)).toBe('a'.repeat(rounds) + 'b'.repeat(rounds) + 'c'.repeat(rounds));
  });

  test('ExtINT again and again, each once', async () => {
    await using running = await waitingMachine();
    for (let round = 1; round <= 50; round++) {
      running.control.sendIpi({ destination: 0, mode: 'extint', vector: 3 });
      await waitUntil('the interrupt', () => letters(running).length >= round);
    }
    expect(letters(running)).toBe('x'.repeat(50));
  });

  test('INIT, then SIPI: a CPU starts anew, and takes interrupts again', async () => {
    await using running = await waitingMachine();

    running.control.sendIpi({ destination: 1, mode: 'init' });
    await running.control.sample();
    const waiting = running.control.vcpus()[1]!.state;
    const silent = await arrivals(running, { destination: 2, mode: 'fixed', vector: VECTOR }, 1);
    running.control.sendIpi({ destination: 1, mode: 'sipi', vector: 8 });
    await waitUntil('the restart', () => running.output.endsWith('1'));
    const heard = await arrivals(
      running,
      { destination: 'all-but', except: 0, mode: 'fixed', vector: VECTOR },
      2,
    );

    expect([waiting, silent, heard]).toEqual(['waiting-for-sipi', 'c', 'bc']);
  });

  test('INIT and SIPI to all but the BSP start all APs anew', async () => {
    await using running = await waitingMachine();

    running.control.sendIpi({ destination: 'all-but', except: 0, mode: 'init' });
    running.control.sendIpi({ destination: 'all-but', except: 0, mode: 'sipi', vector: 8 });
    await waitUntil('both', () => letters(running) === '12');
    await running.control.sample();

    expect(running.control.vcpus().map(({ state }) => state)).not.toContain('waiting-for-sipi');
  });

  test('a SIPI for a CPU that runs is ignored', async () => {
    await using running = await waitingMachine();
    const request = { destination: 1, mode: 'sipi', vector: 8 } as const;
    expect(await arrivals(running, request, 0)).toBe('');
  });

  test('an interrupt wakes a halted CPU, and one that is paused gets it when it is resumed', async () => {
    await using running = await waitingMachine();
    await running.control.pause([1]);
    const whilePaused = await arrivals(running, { destination: 1, mode: 'fixed', vector: VECTOR }, 0);
    await running.control.resume([1]);
    await waitUntil('the interrupt', () => letters(running) === 'b');

    expect(whilePaused).toBe('');
  });
});
