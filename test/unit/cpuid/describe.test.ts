import { expect, test } from 'bun:test';
import { describeCpuid } from '../../../src/cpuid/describe.ts';
import { isAmd, vendorOf } from '../../../src/cpuid/leaf.ts';
import { resolveTopology } from '../../../src/smp/topology.ts';
import { AMD, guestsOf, INTEL } from './hosts.ts';

test('vendors are read from leaf 0', () => {
  expect([vendorOf(AMD), isAmd(AMD)]).toEqual(['AuthenticAMD', true]);
  expect([vendorOf(INTEL), isAmd(INTEL)]).toEqual(['GenuineIntel', false]);
  expect([vendorOf([]), isAmd([])]).toEqual(['', false]);
});

test('a CPU of an Intel host is described by leaves 1, 4 and 0x1F', () => {
  const guest = guestsOf(INTEL, resolveTopology({ cpus: 6, threads: 2 }))[5]!;
  expect(describeCpuid(guest.table)).toEqual({
    vendor: 'GenuineIntel',
    initialApicId: 5,
    logicalProcessors: 6,
    htt: true,
    tscDeadline: true,
    x2apicId: 5,
    levels: [
      { type: 'SMT', shift: 1, logicalProcessors: 2 },
      { type: 'core', shift: 3, logicalProcessors: 6 },
    ],
    caches: [
      { level: 1, sharedBy: 2 },
      { level: 1, sharedBy: 2 },
      { level: 2, sharedBy: 2 },
      { level: 3, sharedBy: 8 },
    ],
  });
});

test('a CPU of an AMD host is described by leaves 1, 0xB and 0x8000001D', () => {
  const topology = { sockets: 1, diesPerSocket: 2, coresPerDie: 3, threadsPerCore: 1 };
  const guest = guestsOf(AMD, topology, { changes: { tscDeadline: false } })[3]!;
  expect(describeCpuid(guest.table)).toEqual({
    vendor: 'AuthenticAMD',
    initialApicId: 4,
    logicalProcessors: 6,
    htt: true,
    tscDeadline: false,
    x2apicId: 4,
    levels: [
      { type: 'SMT', shift: 0, logicalProcessors: 1 },
      { type: 'core', shift: 3, logicalProcessors: 6 },
    ],
    caches: [
      { level: 1, sharedBy: 1 },
      { level: 1, sharedBy: 1 },
      { level: 2, sharedBy: 1 },
      { level: 3, sharedBy: 3 },
    ],
  });
});

test('an empty table is described as nothing', () => {
  expect(describeCpuid([])).toEqual({
    vendor: '',
    initialApicId: 0,
    logicalProcessors: 0,
    htt: false,
    tscDeadline: false,
    x2apicId: undefined,
    levels: [],
    caches: [],
  });
});
