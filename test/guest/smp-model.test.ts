/**
 * States of real vCPUs, and the effect of each event on them: the rows of the pure model in
 * test/unit/smp/vcpu-state.test.ts, as far as they are visible from outside. All tests need /dev/kvm.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { VirtualMachine, VmControl } from '../../src/api/index.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest, NMI_VECTOR } from './interrupt-guest.ts';
import { tinyMachine, type Running } from './running.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** Bounds hangs only. */
setDefaultTimeout(60_000);

const VECTOR = 0x50;
const { idle, endOfInterrupt, printCpu } = interruptAsm;

/** Each CPU prints its number and idles; APs do so once they are started. */
const sleepers = interruptGuest({
  bsp: [...printCpu('0'), ...idle],
  ap: [...printCpu('0'), ...idle],
  handlers: { [VECTOR]: [...printCpu('a'), ...endOfInterrupt], [NMI_VECTOR]: printCpu('n') },
});

async function sleepingMachine(cpus: number): Promise<Running> {
  const running = await tinyMachine(sleepers, cpus);
  await waitUntil('the BSP', () => running.output === '0');
  return running;
}

async function statesOf({ control }: Running): Promise<string[]> {
  await control.sample();
  return control.vcpus().map(({ state }) => state);
}

describe.skipIf(!kvmOpens)('states of real vCPUs (need /dev/kvm)', () => {
  test('created: KVM reports the BSP runnable and the APs uninitialized', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('kernel', buildPvhElf(program(asm.halt())));
    using vm = new VirtualMachine(smallConfig(path, 3));

    const vcpus = new VmControl(vm).vcpus();

    expect(vcpus.map(({ state, mpState }) => [state, mpState])).toEqual([
      ['created', 'runnable'],
      ['created', 'uninitialized'],
      ['created', 'uninitialized'],
    ]);
    expect(vcpus.map(({ bsp }) => bsp)).toEqual([true, false, false]);
  });

  test('running, halted, waiting for SIPI, paused and stopped', async () => {
    const spinner = interruptGuest({
      bsp: [...printCpu('0'), ...idle],
      ap: [...printCpu('0'), ...asm.spin()],
      handlers: {},
    });
    await using running = await tinyMachine(spinner, 4);
    await waitUntil('the BSP', () => running.output === '0');
    running.control.startAp(1, 8);
    await waitUntil('the AP', () => running.output === '01');

    await running.control.pause([3]);
    const alive = await statesOf(running);
    await running.control.stop();
    const dead = running.control.vcpus().map(({ state }) => state);

    expect(alive).toEqual(['halted', 'running', 'waiting-for-sipi', 'paused']);
    expect(dead).toEqual(['stopped', 'stopped', 'stopped', 'stopped']);
  });
});

describe.skipIf(!kvmOpens)('events and real vCPUs (need /dev/kvm)', () => {
  test('INIT resets the registers of a vCPU, SIPI starts it at vector x 0x1000', async () => {
    await using running = await sleepingMachine(2);
    running.control.startAp(1, 8);
    await waitUntil('the AP', () => running.output === '01');
    const before = await running.control.registers(1);

    running.control.sendIpi({ destination: 1, mode: 'init' });
    await statesOf(running);
    const after = await running.control.registers(1);

    expect(Number(before.general['rip'])).toBeGreaterThan(0x10_0000);
    expect(Number(before.special['cr0']) & 1).toBe(1);
    // Intel SDM 3A table 10-1, column INIT
    expect([after.general['rip'], after.general['rsp'], after.general['rflags']]).toEqual([
      '0xfff0',
      '0x0',
      '0x2',
    ]);
    expect(Number(after.special['cr0']) & 1).toBe(0);
  });

  test.each([
    ['an NMI', { destination: 1, mode: 'nmi' }, 'o'],
    ['a fixed interrupt', { destination: 1, mode: 'fixed', vector: VECTOR }, 'b'],
    ['a lowest-priority interrupt', { destination: 1, mode: 'lowest-priority', vector: VECTOR }, 'b'],
  ] as const)('%s wakes a halted vCPU', async (_, request, letter) => {
    await using running = await sleepingMachine(2);
    running.control.startAp(1, 8);
    await waitUntil('the AP', () => running.output === '01');
    await waitUntil('it to halt', () => {
      void running.control.sample();
      return running.control.vcpus()[1]!.state === 'halted';
    });

    running.control.sendIpi(request);

    await waitUntil('the interrupt', () => running.output === `01${letter}`);
  });

  test('INIT does not change a vCPU that waits for SIPI, and a second SIPI is ignored', async () => {
    await using running = await sleepingMachine(2);
    running.control.sendIpi({ destination: 1, mode: 'init' });
    running.control.sendIpi({ destination: 1, mode: 'init' });
    const waiting = await statesOf(running);
    running.control.sendIpi({ destination: 1, mode: 'sipi', vector: 8 });
    await waitUntil('the AP', () => running.output === '01');
    running.control.sendIpi({ destination: 1, mode: 'sipi', vector: 8 });
    await Bun.sleep(50);

    expect(waiting[1]).toBe('waiting-for-sipi');
    expect(running.output).toBe('01');
  });

  test('a SIPI before any INIT is ignored', async () => {
    await using running = await sleepingMachine(2);
    running.control.sendIpi({ destination: 1, mode: 'sipi', vector: 8 });
    await Bun.sleep(50);

    expect(running.output).toBe('0');
    expect((await statesOf(running))[1]).toBe('waiting-for-sipi');
  });

  test('an IPI to a paused vCPU takes effect when it is resumed', async () => {
    await using running = await sleepingMachine(2);
    await running.control.pause();
    running.control.startAp(1, 8);
    running.control.sendIpi({ destination: 0, mode: 'fixed', vector: VECTOR });
    await Bun.sleep(50);
    const whilePaused = running.output;
    await running.control.resume();
    await waitUntil('both', () => running.output.length === 3);

    expect(whilePaused).toBe('0');
    expect([...running.output].sort().join('')).toBe('01a');
  });

  test('pausing a paused vCPU and resuming a running one change nothing', async () => {
    await using running = await sleepingMachine(2);
    await running.control.resume();
    const before = await statesOf(running);
    await running.control.pause([0]);
    await running.control.pause([0]);
    const paused = await statesOf(running);
    await running.control.resume();
    await running.control.resume();

    expect(before).toEqual(['halted', 'waiting-for-sipi']);
    expect(paused).toEqual(['paused', 'waiting-for-sipi']);
    expect(await statesOf(running)).toEqual(before);
  });

  test('a stopped vCPU accepts no command', async () => {
    await using running = await sleepingMachine(2);
    await running.control.stop();

    const attempts = [
      () => running.control.sendIpi({ destination: 1, mode: 'nmi' }),
      () => running.control.startAp(1, 8),
    ];

    for (const attempt of attempts) expect(attempt).toThrow('the guest has ended; start it again');
    await expect(running.control.pause()).rejects.toThrow('the guest has ended');
    await expect(running.control.setAffinity(1, [0])).rejects.toThrow('the guest has ended');
  });

  test.each([
    [{ destination: 2, mode: 'nmi' }, 'destination is 2 (expected a vCPU from 0 to 1)'],
    [{ destination: 'all-but', except: 2, mode: 'nmi' }, 'except is 2 (expected a vCPU from 0 to 1)'],
    [{ destination: 0, mode: 'fixed', vector: 15 }, 'vector is 15 (expected 16 to 255)'],
    [{ destination: 0, mode: 'sipi', vector: 256 }, 'vector is 256 (expected 0 to 255)'],
    [{ destination: 1, mode: 'extint', vector: 3 }, 'the 8259 is wired to the BSP (expected vCPU 0 alone)'],
  ] as const)('%j is an error', async (request, message) => {
    await using running = await sleepingMachine(2);
    expect(() => running.control.sendIpi(request)).toThrow(message);
  });
});
