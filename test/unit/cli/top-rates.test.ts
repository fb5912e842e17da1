import { expect, test } from 'bun:test';
import { ratesBetween } from '../../../src/cli/top-rates.ts';
import { fakeVcpu } from '../api/control-support.ts';

const vcpu = { ...fakeVcpu(0), mpState: 'runnable' as const };

test('rates are differences by the time between the looks', () => {
  const before = { ...vcpu, exits: { io: 100, hlt: 7 }, runtimeNs: 1e9, waitNs: 5e8 };
  const after = {
    ...vcpu,
    exits: { io: 150, hlt: 7, mmio: 200 },
    runtimeNs: 2.5e9,
    waitNs: 1e9,
    hostCpu: 1,
    rip: '0x10',
    symbol: 'f',
  };

  const rates = ratesBetween({ vcpus: [before], atMs: 500 }, { vcpus: [after], atMs: 2500 });

  expect(rates).toEqual([
    {
      index: 0,
      state: 'running',
      mpState: 'runnable',
      hostCpu: 1,
      cpuPercent: 75,
      stealPercent: 25,
      exitsPerSecond: 125,
      exits: { mmio: 100, io: 25 },
      rip: '0x10',
      symbol: 'f',
    },
  ]);
  expect(Object.keys(rates[0]!.exits)).toEqual(['mmio', 'io']);
});

test('what the guest does not tell is left out', () => {
  const look = { vcpus: [{ ...fakeVcpu(0), exits: {} }], atMs: 0 };
  expect(ratesBetween(look, { ...look, atMs: 1000 })).toEqual([
    { index: 0, state: 'running', exitsPerSecond: 0, exits: {} },
  ]);
});

test('a counter that starts again at 0 after 32 bits is no negative rate', () => {
  const before = { ...vcpu, exits: { io: 2 ** 32 - 10 } };
  const after = { ...vcpu, exits: { io: 20 } };
  const [rates] = ratesBetween({ vcpus: [before], atMs: 0 }, { vcpus: [after], atMs: 1000 });
  expect(rates!.exits).toEqual({ io: 30 });
});

test('two looks at the same moment divide by nothing', () => {
  const look = { vcpus: [{ ...vcpu, runtimeNs: 5, waitNs: 5 }], atMs: 9 };
  expect(ratesBetween(look, look)[0]).toMatchObject({ cpuPercent: 0, stealPercent: 0, exitsPerSecond: 0 });
});
