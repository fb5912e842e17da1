import { describe, expect, test } from 'bun:test';
import { GIB, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { placeNodeMemory, resolveNuma, type NumaRequest } from '../../../src/smp/numa.ts';
import { voltErrorOf } from '../support/errors.ts';

const MACHINE = { cpus: 4, maxCpus: 4, memoryBytes: 1000 * MIB };
const resolve = (requests: readonly NumaRequest[], machine = MACHINE) => resolveNuma(requests, machine);

describe('what nodes do not say', () => {
  test('is dealt out in blocks: CPUs, memory and distances', () => {
    expect(resolve([{}, {}, {}])).toEqual({
      nodes: [
        { cpus: [0, 1], memoryBytes: 333 * MIB, hostNode: undefined },
        { cpus: [2], memoryBytes: 333 * MIB, hostNode: undefined },
        { cpus: [3], memoryBytes: 334 * MIB, hostNode: undefined },
      ],
      distances: [
        [10, 20, 20],
        [20, 10, 20],
        [20, 20, 10],
      ],
      latency: undefined,
      bandwidth: undefined,
    });
  });

  test('of memory is what the others leave', () => {
    const { nodes } = resolve([{ memoryBytes: 100 * MIB }, {}, {}]);
    expect(nodes.map(({ memoryBytes }) => memoryBytes / MIB)).toEqual([100, 450, 450]);
  });

  test('of a CPU to be plugged puts it into the last node', () => {
    const machine = { ...MACHINE, maxCpus: 6 };
    const { nodes } = resolve([{ cpus: [0, 1] }, { cpus: [3, 2] }], machine);
    expect(nodes.map(({ cpus }) => cpus)).toEqual([
      [0, 1],
      [2, 3, 4, 5],
    ]);
  });

  test('of a distance is taken from the other direction', () => {
    expect(resolve([{ distances: [10, 31] }, {}, { distances: [42] }]).distances).toEqual([
      [10, 31, 42],
      [31, 10, 20],
      [42, 20, 10],
    ]);
  });
});

test('both directions of a distance may differ', () => {
  expect(resolve([{ distances: [10, 15] }, { distances: [25, 10] }]).distances).toEqual([
    [10, 15],
    [25, 10],
  ]);
});

test('nodes may be given in any order', () => {
  const { nodes } = resolve([
    { node: 1, cpus: [0, 1, 2] },
    { node: 0, cpus: [3] },
  ]);
  expect(nodes.map(({ cpus }) => cpus)).toEqual([[3], [0, 1, 2]]);
});

test.each<[readonly NumaRequest[], string]>([
  [[{ node: 2 }, {}], 'node 2 of 2 (expected nodes 0 to 1, without a gap)'],
  [[{ node: 1 }, {}], 'node 1 twice (expected each node once)'],
  [[{ cpus: [0, 1, 2, 3] }, { cpus: [3] }], 'vCPU 3 in nodes 0 and 1 (expected it in one node)'],
  [[{ distances: [10, 10] }, {}], 'distance 10 from node 0 to 1 (expected 11 to 254)'],
  [[{ distances: [10, 255] }, {}], 'distance 255 from node 0 to 1 (expected 11 to 254)'],
  [
    [{ memoryBytes: 600 * MIB }, { memoryBytes: 300 * MIB }],
    '900 MiB in all (expected the 1000 MiB of the machine)',
  ],
])('%j is refused', (requests, message) => {
  expect(voltErrorOf(() => resolve(requests))).toEqual({
    code: 'config',
    message: `Cannot use these NUMA nodes: ${message}`,
  });
});

test('latencies and bandwidths are told for all nodes, or for none', () => {
  const plan = resolve([{ latencies: [80, 150] }, { latencies: [150, 80] }]);
  expect([plan.latency, plan.bandwidth]).toEqual([
    [
      [80, 150],
      [150, 80],
    ],
    undefined,
  ]);
  expect(voltErrorOf(() => resolve([{ bandwidths: [9000, 100] }, {}])).message).toBe(
    'Cannot use these NUMA nodes: 0 bandwidths of node 1 (expected one for each of 2 nodes, or none anywhere)',
  );
});

describe('memory of nodes', () => {
  test('lies in order, and one node may have it on both sides of the MMIO hole', () => {
    const nodes = [{ memoryBytes: 2 * GIB }, { memoryBytes: 2 * GIB }, { memoryBytes: GIB }];
    expect(placeNodeMemory(nodes, ramRanges(5 * GIB)) as unknown).toEqual([
      { address: 0, bytes: 2 * GIB, node: 0 },
      { address: 2 * GIB, bytes: GIB, node: 1 },
      { address: 4 * GIB, bytes: GIB, node: 1 },
      { address: 5 * GIB, bytes: GIB, node: 2 },
    ]);
  });

  test('is none where a node has none', () => {
    const nodes = [{ memoryBytes: 0 }, { memoryBytes: GIB }];
    expect(placeNodeMemory(nodes, ramRanges(GIB)) as unknown).toEqual([{ address: 0, bytes: GIB, node: 1 }]);
  });
});
