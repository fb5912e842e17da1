import { describe, expect, test } from 'bun:test';
import {
  coresPerSocket,
  cpuCount,
  placeCpus,
  resolveTopology,
  topologyShifts,
  type TopologyRequest,
} from '../../../src/smp/topology.ts';
import { randomTopology } from './random-topology.ts';
import { seededRandom } from '../support/random.ts';

function place(index: number, apicId: number, core: number, thread: number) {
  return { index, apicId, socket: 0, die: 0, core, thread };
}

test('one socket of single-threaded cores numbers them from 0 without gaps', () => {
  const cpus = placeCpus(resolveTopology({ cpus: 5, threads: 1 }));
  expect(cpus).toEqual([0, 1, 2, 3, 4].map((i) => place(i, i, i, 0)));
});

test('threads of a core are next to each other', () => {
  const cpus = placeCpus(resolveTopology({ cpus: 4, threads: 2 }));
  expect(cpus).toEqual([place(0, 0, 0, 0), place(1, 1, 0, 1), place(2, 2, 1, 0), place(3, 3, 1, 1)]);
});

test('an odd number of CPUs leaves the last core half full', () => {
  const topology = resolveTopology({ cpus: 5, threads: 2 });
  const cpus = placeCpus(topology, 5);
  expect(topology.coresPerDie).toBe(3);
  expect(cpuCount(topology)).toBe(6);
  expect(cpus[4]).toEqual(place(4, 4, 2, 0));
});

test('counts that are no power of two leave gaps in the ids of the next level', () => {
  const topology = { sockets: 2, diesPerSocket: 1, coresPerDie: 3, threadsPerCore: 3 };
  const ids = placeCpus(topology).map((cpu) => cpu.apicId);
  expect(topologyShifts(topology)).toEqual({ core: 2, die: 4, socket: 4 });
  expect(ids).toEqual([0, 1, 2, 4, 5, 6, 8, 9, 10, 16, 17, 18, 20, 21, 22, 24, 25, 26]);
});

test('dies take their own bits, between core and socket', () => {
  const topology = { sockets: 2, diesPerSocket: 2, coresPerDie: 2, threadsPerCore: 2 };
  expect(topologyShifts(topology)).toEqual({ core: 1, die: 2, socket: 3 });
  expect(coresPerSocket(topology)).toBe(4);
  expect(placeCpus(topology)[13]).toEqual({ index: 13, apicId: 13, socket: 1, die: 1, core: 0, thread: 1 });
});

test.each([0, 5, 1.5, -1])('%p CPUs cannot be placed where there are 4', (count) => {
  expect(() => placeCpus(resolveTopology({ cpus: 4, threads: 1 }), count)).toThrow(
    `Cannot place ${count} CPUs (expected 1 to 4 in this topology)`,
  );
});

test('254 CPUs with two threads a core stay below APIC id 254', () => {
  const ids = placeCpus(resolveTopology({ cpus: 254, threads: 2 })).map((cpu) => cpu.apicId);
  expect(Math.max(...ids)).toBe(253);
});

describe('thousands of topologies', () => {
  const random = seededRandom(5);
  const topologies = Array.from({ length: 3000 }, () => randomTopology(random, 254));

  test('give every CPU another place and another APIC id, ascending, the BSP with 0', () => {
    for (const topology of topologies) {
      const cpus = placeCpus(topology);
      const ids = cpus.map((cpu) => cpu.apicId);
      const places = new Set(cpus.map((cpu) => `${cpu.socket}.${cpu.die}.${cpu.core}.${cpu.thread}`));
      expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
      expect(ids[0]).toBe(0);
      expect(places.size).toBe(cpuCount(topology));
    }
  });

  test('have shifts that take an APIC id apart into the place it is for', () => {
    for (const topology of topologies) {
      const shifts = topologyShifts(topology);
      const takenApart = placeCpus(topology).map(({ index, apicId }) => ({
        index,
        apicId,
        socket: apicId >> shifts.socket,
        die: (apicId >> shifts.die) & (2 ** (shifts.socket - shifts.die) - 1),
        core: (apicId >> shifts.core) & (2 ** (shifts.die - shifts.core) - 1),
        thread: apicId & (2 ** shifts.core - 1),
      }));
      expect(takenApart).toEqual(placeCpus(topology));
    }
  });

  test('keep every place within its counts', () => {
    for (const topology of topologies) {
      const last = placeCpus(topology).at(-1)!;
      expect([last.socket, last.die, last.core, last.thread]).toEqual([
        topology.sockets - 1,
        topology.diesPerSocket - 1,
        topology.coresPerDie - 1,
        topology.threadsPerCore - 1,
      ]);
    }
  });
});

describe('a topology that is asked for', () => {
  const levels = (request: TopologyRequest) => {
    const { sockets, diesPerSocket, coresPerDie, threadsPerCore } = resolveTopology(request);
    return [sockets, diesPerSocket, coresPerDie, threadsPerCore];
  };

  test.each<[TopologyRequest, readonly number[]]>([
    [{ cpus: 8 }, [1, 1, 8, 1]],
    [{ cpus: 8, threads: 2 }, [1, 1, 4, 2]],
    [{ cpus: 8, sockets: 2 }, [2, 1, 4, 1]],
    [{ cpus: 5, sockets: 2 }, [2, 1, 3, 1]],
    [{ cpus: 8, cores: 2 }, [4, 1, 2, 1]],
    [{ cpus: 12, dies: 3, threads: 2 }, [1, 3, 2, 2]],
    [{ cpus: 8, sockets: 2, dies: 1, cores: 2, threads: 2 }, [2, 1, 2, 2]],
  ])('%j is completed', (request, expected) => {
    expect(levels(request)).toEqual([...expected]);
  });

  test.each<[string, TopologyRequest, readonly number[]]>([
    ['in the one socket where none is told', { cpus: 2, max: 8 }, [1, 1, 8, 1]],
    [
      'in further sockets of the same kind',
      { cpus: 8, max: 16, sockets: 2, cores: 2, threads: 2 },
      [4, 1, 2, 2],
    ],
    ['in sockets that are counted already', { cpus: 4, max: 16, sockets: 2, cores: 8 }, [2, 1, 8, 1]],
    ['in a last socket that stays partly empty', { cpus: 4, max: 7, sockets: 2 }, [4, 1, 2, 1]],
  ])('has room for CPUs to be plugged %s', (_, request, expected) => {
    expect(levels(request)).toEqual([...expected]);
  });

  test('has a place for every CPU, whatever the counts', () => {
    const random = seededRandom(21);
    for (let i = 0; i < 5000; i++) {
      const cpus = random.int(1, 300);
      const max = cpus + random.int(0, 100);
      const counts = { cores: random.int(1, 9), dies: random.int(1, 4), threads: random.int(1, 4) };
      const topology = resolveTopology({ cpus, max, ...counts });
      expect(cpuCount(topology)).toBeGreaterThanOrEqual(max);
      expect(cpuCount(topology) - max).toBeLessThan(coresPerSocket(topology) * topology.threadsPerCore);
    }
  });
});
