/** APs without a Worker: in KVM_RUN on threads of their own until they need Volt, and taken over then. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { VirtualMachine } from '../../src/api/index.ts';
import type { VcpuStatus } from '../../src/api/control/target.ts';
import { getThreadAffinity } from '../../src/ffi/affinity.ts';
import { VCPU_WORD } from '../../src/vmm/bus/shared-state.ts';
import { pauseVcpus } from '../../src/vmm/vcpu/control.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { copyTo8000, Running, tinyMachine } from './running.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);
const HANG_MS = 20_000;
const NO_HOST_CPU = 3000;

const enableApic = [...asm.loadEax(0x1ff), ...asm.storeEax(0xfee0_00f0)];
const sendTo = (id: number, command: number) => [
  ...[...asm.loadEax(id * 2 ** 24), ...asm.storeEax(0xfee0_0310)],
  ...[...asm.loadEax(command), ...asm.storeEax(0xfee0_0300)],
];
const start = (id: number) => [...sendTo(id, 0x4500), ...sendTo(id, 0x4608)];
const FLAG = 0x8100;
const untilFlag = (value: number) => asm.untilZero([0xa0, ...[0x00, 0x81, 0x00, 0x00], 0x34, value]); // xor al, value
const clearFlag = [...asm.loadEax(0), ...asm.storeEax(FLAG)];
/** Real mode, CS = 0x800: mov byte cs:[0x100], 1; and then halts for ever. */
const setFlag = [0x2e, 0xc6, 0x06, 0x00, 0x01, 0x01];
const halt16 = [0xfa, 0xf4, 0xeb, 0xfd];
/** mov dx, 0x3f8; mov al, 'A'; out dx, al */
const print16 = [0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee];

describe.skipIf(!kvmOpens)('APs without a Worker (needs /dev/kvm)', () => {
  test('run the guest on the thread they waited on, as long as they make no exit', async () => {
    const code = program(clearFlag, copyTo8000([...setFlag, ...halt16]), enableApic, start(1), untilFlag(1), [
      ...asm.print('AP was here\n'),
      ...asm.halt(),
    ]);
    await using machine = await tinyMachine(code, 3);
    const [, ...before] = threadIds(machine.vm);

    await waitUntil('the AP ran', () => machine.output === 'AP was here\n');

    expect(threadIds(machine.vm).slice(1)).toEqual(before);
    expect(before.map(nameOf)).toEqual(['vcpu1', 'vcpu2']);
  });

  test('are taken over at their first exit, which is not lost', async () => {
    const code = program(clearFlag, copyTo8000([...print16, ...setFlag, ...halt16]), enableApic, start(1), [
      ...untilFlag(1),
      ...asm.print('B'),
      ...asm.halt(),
    ]);
    await using machine = await tinyMachine(code, 3);
    const [, ap, other] = threadIds(machine.vm);

    await waitUntil('both have printed', () => machine.output.length === 2);

    const [, apNow, otherNow] = threadIds(machine.vm);
    expect(machine.output).toBe('AB');
    expect(apNow).not.toBe(ap);
    expect(nameOf(apNow!)).toBe('vcpu1');
    expect(otherNow).toBe(other);
  });

  test('that nobody started are paused, looked at and resumed, and start after that', async () => {
    const code = program(clearFlag, copyTo8000([...print16, ...setFlag, ...halt16]), enableApic, [
      ...asm.print('ready'),
      ...asm.untilZero([...asm.in8(0x3fd), 0x24, 0x01, 0x34, 0x01]),
      ...start(1),
      ...untilFlag(1),
      ...asm.exit(0),
    ]);
    await using machine = await tinyMachine(code, 2);
    await waitUntil('the BSP is up', () => machine.output === 'ready');

    await machine.control.pause();
    const states = machine.control.vcpus().map(({ state }) => state);
    const [, { rip }] = machine.control.vcpus() as [unknown, VcpuStatus];
    await machine.control.resume();
    machine.vm.sendConsole(Buffer.from('x'));
    const end = await machine.vm.ended;
    await waitUntil('the AP has printed', () => machine.output === 'readyA');

    expect(states).toEqual(['paused', 'paused']);
    expect(rip).toBe('0xfff0');
    expect(end.kind).toBe('guest-exit');
  });

  test('are taken over by a Worker to get a priority and host CPUs, which it sets for itself', async () => {
    const code = program(asm.print('up'), asm.halt());
    await using machine = await tinyMachine(code, 2);
    await waitUntil('the BSP is up', () => machine.output === 'up');
    const [, ap] = threadIds(machine.vm);

    await machine.control.setNice(1, 19);
    await machine.control.setAffinity(1, [0]);

    const [, apNow] = threadIds(machine.vm);
    const [, status] = machine.control.vcpus();
    expect(apNow).not.toBe(ap);
    expect(niceOf(apNow!)).toBe(19);
    expect(status!.affinity).toEqual([0]);
  });

  test('have their host CPUs and priority from the start, by their own doing', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('kernel', buildPvhElf(program(asm.print('up'), asm.halt())));
    const vm = new VirtualMachine(smallConfig(path, 4));
    const all = getThreadAffinity(process.pid);
    vm.vcpus[1]!.scheduling.cpus = [all.at(-1)!];
    vm.vcpus[2]!.scheduling.nice = 19;
    await using machine = new Running(vm);
    await waitUntil('the BSP is up', () => machine.output === 'up');

    const [, ...aps] = machine.control.vcpus();

    const nice = niceOf(process.pid);
    expect(aps.map(({ affinity }) => affinity)).toEqual([[all.at(-1)!], all, all]);
    expect(aps.map(({ threadId }) => niceOf(threadId))).toEqual([nice, 19, nice]);
    expect(aps.map(({ threadId }) => nameOf(threadId))).toEqual(['vcpu1', 'vcpu2', 'vcpu3']);
  });

  test('end with the machine, whenever it is stopped beside its own end', async () => {
    const code = program(asm.print('up'), asm.exit(0));
    const kinds: string[] = [];
    for (let round = 0; round < 40; round++) {
      await using machine = await tinyMachine(code, 9);
      await Bun.sleep(round / 4);
      void machine.vm.stop();
      const end = await Promise.race([machine.vm.ended, Bun.sleep(HANG_MS)]);
      kinds.push(end?.kind ?? 'hangs');
    }

    expect(kinds.filter((kind) => kind !== 'guest-exit' && kind !== 'stopped')).toEqual([]);
  });

  test('that cannot be started all leave nothing behind', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('kernel', buildPvhElf(program(asm.halt())));
    const vm = new VirtualMachine(smallConfig(path, 5));
    // As on a host CPU that this process may not use, which nobody can know before.
    vm.vcpus[1]!.scheduling.cpus = [NO_HOST_CPU];

    expect(() => vm.start()).toThrow('sched_setaffinity failed: EINVAL');
    const end = await vm.stop();
    vm[Symbol.dispose]();
    await waitUntil('their threads are gone', () => vcpuThreads().length === 0);

    expect(end.kind).toBe('stopped');
  });

  test('stay on their threads when they are paused, sampled and resumed, however often', async () => {
    const count = [0xfe, 0x05, ...[0x00, 0x81, 0x00, 0x00]]; // inc byte [FLAG]
    const code = program(clearFlag, asm.print('up'), asm.forEver(count));
    await using machine = await tinyMachine(code, 64);
    await waitUntil('the BSP is up', () => machine.output === 'up');
    const before = threadIds(machine.vm);

    const paused: number[] = [];
    for (let round = 0; round < 20; round++) {
      await machine.control.pause();
      await machine.control.sample();
      paused.push(machine.control.vcpus().filter(({ state }) => state === 'paused').length);
      await machine.control.resume();
      await machine.control.sample();
    }

    expect(paused).toEqual(Array(20).fill(64));
    expect(threadIds(machine.vm)).toEqual(before);
    expect(machine.control.vcpus().filter(({ state }) => state === 'waiting-for-sipi')).toHaveLength(63);
  });

  test('that are paused end with the machine, and when it is disposed of at once', async () => {
    const code = program(asm.print('up'), asm.halt());
    for (const wait of [true, false]) {
      await using machine = await tinyMachine(code, 9);
      await waitUntil('the BSP is up', () => machine.output === 'up');
      await machine.control.pause();

      if (wait) await machine.vm.stop();
      machine.vm[Symbol.dispose]();

      expect((await machine.vm.ended).kind).toBe('stopped');
    }
    await waitUntil('their threads are gone', () => vcpuThreads().length === 0);
  });

  test('whose pause is given up before they have obeyed are in the guest', async () => {
    const code = program(asm.print('up'), asm.halt());
    await using machine = await tinyMachine(code, 9);
    await waitUntil('the BSP is up', () => machine.output === 'up');

    const aps = machine.vm.vcpus.slice(1);
    let givenUp = 0;
    for (let round = 0; round < 200; round++) {
      await pauseVcpus(aps, 0).catch(() => givenUp++);
      await Bun.sleep(round % 3);
    }
    await machine.control.sample();

    expect(givenUp).toBe(200);
    expect(machine.control.vcpus().filter(({ state }) => state === 'paused')).toEqual([]);
  });

  test('cost less memory than with Workers, which a change of their priority takes', async () => {
    const code = program(asm.print('up'), asm.halt());
    await using machine = await tinyMachine(code, 33);
    await waitUntil('the BSP is up', () => machine.output === 'up');
    await machine.control.pause();
    const waiting = residentKib();
    for (let ap = 1; ap <= 32; ap++) await machine.control.setNice(ap, 1);
    const withWorkers = residentKib();
    await machine.control.resume();

    expect(withWorkers - waiting).toBeGreaterThan(32 * 300);
  });
});

function threadIds(vm: { readonly vcpus: readonly { readonly words: Int32Array }[] }): number[] {
  return vm.vcpus.map(({ words }) => Atomics.load(words, VCPU_WORD.threadId));
}

function nameOf(threadId: number): string {
  return readFileSync(`/proc/self/task/${threadId}/comm`, 'utf8').trim();
}

function niceOf(threadId: number): number {
  const stat = readFileSync(`/proc/self/task/${threadId}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
}

function vcpuThreads(): string[] {
  return readdirSync('/proc/self/task').filter((thread) => /^vcpu\d/.test(commOf(thread)));
}

function commOf(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/comm`, 'utf8');
  } catch {
    return '';
  }
}

function residentKib(): number {
  return Number(/VmRSS:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
}
