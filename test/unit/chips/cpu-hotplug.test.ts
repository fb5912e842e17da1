import { describe, expect, test } from 'bun:test';
import {
  lastCpuOst,
  cpuHotplugRead,
  cpuHotplugWords,
  cpuHotplugWrite,
  HOTPLUG_REQUEST,
  isCpuEjected,
  isCpuPresent,
  clearCpuEjected,
  plugCpu,
  requestCpuRemoval,
  resetCpuHotplug,
  cancelCpuRequest,
} from '../../../src/chips/cpu-hotplug.ts';
import { CPU_HOTPLUG, CPU_HOTPLUG_NONE, CPU_HOTPLUG_STATUS } from '../../../src/machine/ports.ts';
import { seededRandom } from '../support/random.ts';

const { present, inserted, removing, eject } = CPU_HOTPLUG_STATUS;

/** Four slots, two of them with CPUs; the BSP is 0. */
function createMachine() {
  const words = new Int32Array(cpuHotplugWords(4));
  resetCpuHotplug(words, 2);
  const write = (offset: number, value: number) => cpuHotplugWrite(words, offset, value, 0);
  const statusOf = (cpu: number) => {
    write(CPU_HOTPLUG.select, cpu);
    return cpuHotplugRead(words, CPU_HOTPLUG.status);
  };
  const next = () => cpuHotplugRead(words, CPU_HOTPLUG.next);
  return { words, write, statusOf, next };
}

describe('the guest', () => {
  test('sees which CPUs are there', () => {
    const { statusOf } = createMachine();
    expect([0, 1, 2, 3].map(statusOf)).toEqual([present, present, 0, 0]);
  });

  test('reads nothing of CPUs that cannot be', () => {
    const { statusOf, write } = createMachine();
    expect([4, 5, 0x7fff_ffff, 0xffff_ffff].map(statusOf)).toEqual([0, 0, 0, 0]);
    expect(write(CPU_HOTPLUG.status, eject)).toBe(HOTPLUG_REQUEST.none);
  });

  test('finds no event where nothing happened', () => {
    expect(createMachine().next()).toBe(CPU_HOTPLUG_NONE);
  });

  test('finds each plugged CPU once, and goes on when it has acknowledged it', () => {
    const { words, next, write } = createMachine();
    plugCpu(words, 2);
    plugCpu(words, 3);
    expect([next(), next()]).toEqual([2, 2]);
    expect(cpuHotplugRead(words, CPU_HOTPLUG.status)).toBe(present | inserted);
    write(CPU_HOTPLUG.status, inserted);
    expect(next()).toBe(3);
    write(CPU_HOTPLUG.status, inserted);
    expect(next()).toBe(CPU_HOTPLUG_NONE);
  });

  test('ejects a CPU, which is gone at once and taken by the VMM later', () => {
    const { words, write, statusOf, next } = createMachine();
    requestCpuRemoval(words, 1);
    expect([next(), statusOf(1)]).toEqual([1, present | removing]);
    write(CPU_HOTPLUG.status, removing);

    expect(write(CPU_HOTPLUG.status, eject)).toBe(HOTPLUG_REQUEST.eject);

    expect([isCpuPresent(words, 1), isCpuEjected(words, 1), statusOf(1) & present]).toEqual([false, true, 0]);
    clearCpuEjected(words, 1);
    expect([isCpuEjected(words, 1), statusOf(1)]).toEqual([false, 0]);
  });

  test('cannot eject the BSP, nor what is not there', () => {
    const { words, write, statusOf } = createMachine();
    statusOf(0);
    expect(write(CPU_HOTPLUG.status, eject)).toBe(HOTPLUG_REQUEST.none);
    statusOf(3);
    expect(write(CPU_HOTPLUG.status, eject)).toBe(HOTPLUG_REQUEST.none);
    expect([isCpuPresent(words, 0), isCpuEjected(words, 3)]).toEqual([true, false]);
  });

  test('cannot make a CPU present by writing so', () => {
    const { write, statusOf } = createMachine();
    statusOf(2);
    write(CPU_HOTPLUG.status, present | inserted | removing);
    expect(statusOf(2)).toBe(0);
  });

  test('says by _OST what it did, which counts when the status comes', () => {
    const { words, write, statusOf } = createMachine();
    statusOf(1);
    expect(write(CPU_HOTPLUG.ostEvent, 3)).toBe(HOTPLUG_REQUEST.none);
    expect(write(CPU_HOTPLUG.ostStatus, 0x81)).toBe(HOTPLUG_REQUEST.ost);
    expect(lastCpuOst(words, 1)).toEqual({ event: 3, status: 0x81, count: 1 });
    expect(lastCpuOst(words, 0).count).toBe(0);
  });
});

test('a wish that is withdrawn is no event any more', () => {
  const { words, next } = createMachine();
  requestCpuRemoval(words, 1);
  cancelCpuRequest(words, 1);
  expect([next(), isCpuPresent(words, 1)]).toEqual([CPU_HOTPLUG_NONE, true]);
});

test('whatever a guest writes, the BSP stays and no other word changes hands', () => {
  const random = seededRandom(77);
  const { words, write, next } = createMachine();
  const values = [0, 1, 2, 3, 4, 8, 15, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] as const;
  for (let i = 0; i < 20_000; i++) {
    write(random.pick([0, 1, 4, 8, 12, 13, 16] as const), random.pick(values));
    if (i % 7 === 0) next();
  }
  expect(isCpuPresent(words, 0)).toBe(true);
  expect([2, 3].map((cpu) => isCpuPresent(words, cpu))).toEqual([false, false]);
});
