import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { CpuidEntry } from '../../../src/machine/cpuid-entry.ts';
import { cpuCount, resolveTopology, topologyShifts, type Topology } from '../../../src/smp/topology.ts';
import { randomTopology } from '../smp/random-topology.ts';
import { seededRandom } from '../support/random.ts';
import { AMD, field, guestsOf, INTEL, leaf, placeByLeaf, subleaves } from './hosts.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const TWO_DIES: Topology = { sockets: 1, diesPerSocket: 2, coresPerDie: 3, threadsPerCore: 2 };
const HOSTS = [
  ['AMD', AMD],
  ['Intel', INTEL],
] as const;

/** Bits that the leaf's own meaning fixes, apart from the ones Volt sets. */
const KEPT = { ebx: 0x0000_ffff, ecx: 0x7eff_ffff, edx: 0xefff_ffff };
const mask = (value: number, bits: number) => (value & bits) >>> 0;

describe.each(HOSTS)('on an %s host, leaf 1', (_, host) => {
  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), 1, 0],
    ['2 cores', resolveTopology({ cpus: 2, threads: 1 }), 2, 1],
    ['1 core of 2 threads', resolveTopology({ cpus: 2, threads: 2 }), 2, 1],
    ['3 cores', resolveTopology({ cpus: 3, threads: 1 }), 3, 1],
    ['2 dies of 3 cores of 2 threads', TWO_DIES, 12, 1],
    ['254 CPUs', resolveTopology({ cpus: 254, threads: 1 }), 254, 1],
  ])('tells each of %s its id, their number and HTT', (__, topology, logical, htt) => {
    const guests = guestsOf(host, topology);
    const told = guests.map(({ table }) => leaf(table, 1));
    expect(told.map(({ ebx }) => field(ebx, 31, 24))).toEqual(guests.map(({ cpu }) => cpu.apicId));
    expect(new Set(told.map(({ ebx }) => field(ebx, 23, 16)))).toEqual(new Set([logical]));
    expect(new Set(told.map(({ edx }) => field(edx, 28, 28)))).toEqual(new Set([htt]));
  });

  test('has the hypervisor bit', () => {
    const [guest] = guestsOf(host, resolveTopology({ cpus: 1, threads: 1 }));
    expect(field(leaf(guest!.table, 1).ecx, 31, 31)).toBe(1);
  });

  test.each([
    [true, 1],
    [false, 0],
  ])('has the TSC-deadline bit as KVM has the capability: %p', (tscDeadline, bit) => {
    const [guest] = guestsOf(host, resolveTopology({ cpus: 1, threads: 1 }), { changes: { tscDeadline } });
    expect(field(leaf(guest!.table, 1).ecx, 24, 24)).toBe(bit);
  });

  test('keeps every other bit', () => {
    const before = leaf(host, 1);
    const after = leaf(guestsOf(host, resolveTopology({ cpus: 4, threads: 2 }))[3]!.table, 1);
    expect(after.eax).toBe(before.eax);
    expect(mask(after.ebx, KEPT.ebx)).toBe(mask(before.ebx, KEPT.ebx));
    expect(mask(after.ecx, KEPT.ecx)).toBe(mask(before.ecx, KEPT.ecx));
    expect(mask(after.edx, KEPT.edx)).toBe(mask(before.edx, KEPT.edx));
  });
});

describe('two dies', () => {
  const highest = (table: readonly CpuidEntry[]) => leaf(table, 0).eax;

  test('are told apart by leaf 0x1F on Intel', () => {
    const [guest] = guestsOf(INTEL, TWO_DIES);
    expect(subleaves(guest!.table, 0x1f).map(({ eax, ebx, ecx }) => [eax, ebx, ecx])).toEqual([
      [1, 2, 0x100],
      [3, 6, 0x201],
      [4, 12, 0x502],
      [0, 0, 3],
    ]);
    expect(highest(guest!.table)).toBeGreaterThanOrEqual(0x1f);
  });

  test('are not told by that leaf on AMD, which has none', () => {
    const [guest] = guestsOf(AMD, TWO_DIES);
    expect(subleaves(guest!.table, 0x1f)).toEqual([]);
    expect(highest(guest!.table)).toBe(highest(AMD));
  });
});

describe.each(HOSTS)('on an %s host, leaf 0xB', (_, host) => {
  /** [shift, logical processors, type and level number] */
  const levelsOf = (table: readonly CpuidEntry[], number = 0xb) =>
    subleaves(table, number).map(({ eax, ebx, ecx }) => [eax, ebx, ecx]);

  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), [0, 1], [0, 1]],
    ['2 cores', resolveTopology({ cpus: 2, threads: 1 }), [0, 1], [1, 2]],
    ['1 core of 2 threads', resolveTopology({ cpus: 2, threads: 2 }), [1, 2], [1, 2]],
    ['3 cores', resolveTopology({ cpus: 3, threads: 1 }), [0, 1], [2, 3]],
    ['3 cores of 2 threads', resolveTopology({ cpus: 6, threads: 2 }), [1, 2], [3, 6]],
    ['254 CPUs', resolveTopology({ cpus: 254, threads: 1 }), [0, 1], [8, 254]],
  ])('has SMT and core levels and an end for %s', (__, topology, [smtShift, smt], [coreShift, cores]) => {
    const [guest] = guestsOf(host, topology);
    expect(levelsOf(guest!.table)).toEqual([
      [smtShift!, smt!, 0x100],
      [coreShift!, cores!, 0x201],
      [0, 0, 2],
    ]);
  });

  test('tells each CPU its x2APIC id in every subleaf', () => {
    for (const { cpu, table } of guestsOf(host, TWO_DIES)) {
      expect(subleaves(table, 0xb).map((each) => each.edx)).toEqual(Array(3).fill(cpu.apicId));
    }
  });

  test('counts all cores of a socket with two dies, since it knows no dies', () => {
    const [guest] = guestsOf(host, TWO_DIES);
    expect(levelsOf(guest!.table)).toEqual([
      [1, 2, 0x100],
      [4, 12, 0x201],
      [0, 0, 2],
    ]);
  });

  test('marks its subleaves as indexed and has each once', () => {
    const [guest] = guestsOf(host, resolveTopology({ cpus: 4, threads: 2 }));
    const indexes = subleaves(guest!.table, 0xb).map(({ index, flags }) => [index, flags]);
    expect(indexes).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
  });
});

describe('leaf 0x1F', () => {
  test('says the same as 0xB where there is one die and the host reaches that far', () => {
    const [guest] = guestsOf(INTEL, resolveTopology({ cpus: 6, threads: 2 }));
    const registers = (number: number) =>
      subleaves(guest!.table, number).map(({ eax, ebx, ecx, edx }) => [eax, ebx, ecx, edx]);
    expect(registers(0x1f)).toEqual(registers(0xb));
  });

  test('stays away where the host does not reach that far', () => {
    const [guest] = guestsOf(AMD, resolveTopology({ cpus: 6, threads: 2 }));
    expect(subleaves(guest!.table, 0x1f)).toEqual([]);
    expect(leaf(guest!.table, 0).eax).toBe(leaf(AMD, 0).eax);
  });

  test('raises the highest leaf of a host that ends at 1 as far as 0xB', () => {
    const old = INTEL.filter((entry) => entry.function <= 1).map((entry) => ({
      ...entry,
      eax: entry.function === 0 ? 1 : entry.eax,
    }));
    const [guest] = guestsOf(old, resolveTopology({ cpus: 2, threads: 1 }));
    expect(leaf(guest!.table, 0).eax).toBe(0xb);
    expect(subleaves(guest!.table, 0xb).length).toBe(3);
  });
});

describe('on an Intel host, leaf 4', () => {
  /** [cache level, ids that share the cache, core ids in the package] */
  const cachesOf = (topology: Topology) =>
    subleaves(guestsOf(INTEL, topology)[0]!.table, 4)
      .filter(({ eax }) => field(eax, 4, 0) !== 0)
      .map(({ eax }) => [field(eax, 7, 5), field(eax, 25, 14) + 1, field(eax, 31, 26) + 1]);

  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), [1, 1], 1],
    ['2 cores', resolveTopology({ cpus: 2, threads: 1 }), [1, 2], 2],
    ['1 core of 2 threads', resolveTopology({ cpus: 2, threads: 2 }), [2, 2], 1],
    ['3 cores, whose ids take 2 bits', resolveTopology({ cpus: 3, threads: 1 }), [1, 4], 4],
    ['3 cores of 2 threads', resolveTopology({ cpus: 6, threads: 2 }), [2, 8], 4],
    ['2 dies of 3 cores of 2 threads', TWO_DIES, [2, 8], 8],
    ['254 CPUs, of which 6 bits of core ids show', resolveTopology({ cpus: 254, threads: 1 }), [1, 256], 64],
  ])('tells who shares each cache for %s', (_, topology, [ofCore, ofDie], coreIds) => {
    expect(cachesOf(topology)).toEqual([
      [1, ofCore!, coreIds],
      [1, ofCore!, coreIds],
      [2, ofCore!, coreIds],
      [3, ofDie!, coreIds],
    ]);
  });

  test('keeps types, sizes and the entry that ends it', () => {
    const after = subleaves(guestsOf(INTEL, resolveTopology({ cpus: 4, threads: 2 }))[2]!.table, 4);
    const before = subleaves(INTEL, 4);
    const rest = (entries: readonly CpuidEntry[]) =>
      entries.map((entry) => ({ ...entry, eax: field(entry.eax, 13, 0) }));
    expect(rest(after)).toEqual(rest(before));
    expect(after[4]).toEqual(before[4]!);
  });
});

describe('on an AMD host', () => {
  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), 0, 0],
    ['2 cores', resolveTopology({ cpus: 2, threads: 1 }), 1, 1],
    ['3 cores of 2 threads', resolveTopology({ cpus: 6, threads: 2 }), 5, 3],
    ['2 dies of 3 cores of 2 threads', TWO_DIES, 11, 4],
    ['254 CPUs', resolveTopology({ cpus: 254, threads: 1 }), 253, 8],
  ])('leaf 0x80000008 tells threads and id bits of %s', (_, topology, threadsLessOne, idBits) => {
    const { ecx } = leaf(guestsOf(AMD, topology)[0]!.table, 0x8000_0008);
    expect(field(ecx, 7, 0)).toBe(threadsLessOne);
    expect(field(ecx, 15, 12)).toBe(idBits);
  });

  test('leaf 0x80000008 keeps the address widths', () => {
    const before = leaf(AMD, 0x8000_0008);
    const after = leaf(guestsOf(AMD, resolveTopology({ cpus: 4, threads: 2 }))[0]!.table, 0x8000_0008);
    expect([after.eax, after.ebx, after.edx]).toEqual([before.eax, before.ebx, before.edx]);
  });

  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), 0],
    ['2 cores', resolveTopology({ cpus: 2, threads: 1 }), 1],
  ])('CmpLegacy is told for %s', (_, topology, bit) => {
    const { ecx } = leaf(guestsOf(AMD, topology)[0]!.table, 0x8000_0001);
    expect(field(ecx, 1, 1)).toBe(bit);
  });

  test.each([
    ['1 CPU', resolveTopology({ cpus: 1, threads: 1 }), 1, 1],
    ['3 cores', resolveTopology({ cpus: 3, threads: 1 }), 1, 3],
    ['3 cores of 2 threads', resolveTopology({ cpus: 6, threads: 2 }), 2, 6],
    ['2 dies of 3 cores of 2 threads', TWO_DIES, 2, 6],
    ['254 CPUs', resolveTopology({ cpus: 254, threads: 1 }), 1, 254],
  ])('leaf 0x8000001D tells who shares each cache for %s', (_, topology, ofCore, ofDie) => {
    const caches = subleaves(guestsOf(AMD, topology)[0]!.table, 0x8000_001d);
    const shared = caches
      .filter(({ eax }) => field(eax, 4, 0) !== 0)
      .map(({ eax }) => [field(eax, 7, 5), field(eax, 25, 14) + 1]);
    expect(shared).toEqual([
      [1, ofCore],
      [1, ofCore],
      [2, ofCore],
      [3, ofDie],
    ]);
  });

  test('leaf 0x8000001E tells each CPU its id, core, threads a core, die and dies', () => {
    const told = guestsOf(AMD, TWO_DIES).map(({ table }) => {
      const { eax, ebx, ecx, edx } = leaf(table, 0x8000_001e);
      return [eax, ebx, ecx, edx];
    });
    expect(told).toEqual([
      [0, 0x100, 0x100, 0],
      [1, 0x100, 0x100, 0],
      [2, 0x101, 0x100, 0],
      [3, 0x101, 0x100, 0],
      [4, 0x102, 0x100, 0],
      [5, 0x102, 0x100, 0],
      [8, 0x100, 0x101, 0],
      [9, 0x100, 0x101, 0],
      [10, 0x101, 0x101, 0],
      [11, 0x101, 0x101, 0],
      [12, 0x102, 0x101, 0],
      [13, 0x102, 0x101, 0],
    ]);
  });

  describe('whose KVM leaves out TopologyExtensions and the leaves it is about', () => {
    const plain = AMD.filter((entry) => entry.function < 0x8000_001d).map((entry) => ({
      ...entry,
      eax: entry.function === 0x8000_0000 ? 0x8000_0008 : entry.eax,
      ecx: entry.function === 0x8000_0001 ? 0 : entry.ecx,
    }));
    const told = (topology: Topology) => {
      const { table } = guestsOf(plain, topology)[0]!;
      return {
        highest: leaf(table, 0x8000_0000).eax,
        extensions: field(leaf(table, 0x8000_0001).ecx, 22, 22),
        places: subleaves(table, 0x8000_001e).length,
      };
    };

    test.each([
      ['cores of 2 threads', resolveTopology({ cpus: 4, threads: 2 })],
      ['2 dies', { sockets: 1, diesPerSocket: 2, coresPerDie: 2, threadsPerCore: 1 }],
    ])('both are there for %s, which Linux would not believe in otherwise', (_, topology) => {
      expect(told(topology)).toEqual({ highest: 0x8000_001e, extensions: 1, places: 1 });
    });

    test('neither is for single-threaded cores of one die', () => {
      expect(told(resolveTopology({ cpus: 4, threads: 1 }))).toEqual({
        highest: 0x8000_0008,
        extensions: 0,
        places: 0,
      });
    });
  });

  test('the caches as Linux 6.1 groups them by id are those of the die, whatever the counts', () => {
    for (const cpus of [1, 2, 3, 5, 6, 7, 12, 24, 100, 254]) {
      const topology = resolveTopology({ cpus, threads: 2 });
      const l3 = leaf(guestsOf(AMD, topology, { indexes: [0] })[0]!.table, 0x8000_001d, 3);
      // cacheinfo_amd_init_llc_id: bits = get_count_order(num_sharing_cache)
      const bits = Math.ceil(Math.log2(field(l3.eax, 25, 14) + 1));
      expect(bits).toBe(topologyShifts(topology).die);
    }
  });
});

describe('KVM leaves', () => {
  test.each(HOSTS)('on an %s host get a timing leaf with TSC and APIC frequency in kHz', (_, host) => {
    const [guest] = guestsOf(host, resolveTopology({ cpus: 1, threads: 1 }), {
      changes: { tscKhz: 2_595_124 },
    });
    const { eax, ebx, ecx, edx } = leaf(guest!.table, 0x4000_0010);
    expect([eax, ebx, ecx, edx]).toEqual([2_595_124, 1_000_000, 0, 0]);
    expect(leaf(guest!.table, 0x4000_0000)).toEqual({
      ...leaf(host, 0x4000_0000),
      eax: 0x4000_0010,
    });
    expect(leaf(guest!.table, 0x4000_0001)).toEqual(leaf(host, 0x4000_0001));
  });

  test('stay as they are when KVM does not tell the frequency', () => {
    const [guest] = guestsOf(AMD, resolveTopology({ cpus: 1, threads: 1 }), { changes: { tscKhz: 0 } });
    expect(subleaves(guest!.table, 0x4000_0010)).toEqual([]);
    expect(leaf(guest!.table, 0x4000_0000)).toEqual(leaf(AMD, 0x4000_0000));
  });
});

describe.each(HOSTS)('on an %s host, a whole table', (_, host) => {
  const REWRITTEN = new Set([
    0, 1, 4, 0xb, 0x1f, 0x4000_0000, 0x4000_0010, 0x8000_0001, 0x8000_0008, 0x8000_001d, 0x8000_001e,
  ]);
  const others = (table: readonly CpuidEntry[]) => table.filter((entry) => !REWRITTEN.has(entry.function));

  test('has every leaf that says nothing of topology as the host has it', () => {
    const guest = guestsOf(host, resolveTopology({ cpus: 6, threads: 2 }), {
      changes: { tscKhz: 2_000_000 },
    })[5]!;
    expect(others(guest.table)).toEqual(others(host));
  });

  test('has no leaf and subleaf twice, and only u32', () => {
    const guest = guestsOf(host, TWO_DIES, { changes: { tscKhz: 2_000_000 } })[11]!;
    const keys = guest.table.map((entry) => `${entry.function}.${entry.index}`);
    const words = guest.table.flatMap((entry) => Object.values(entry));
    expect(keys.length).toBe(new Set(keys).size);
    expect(words.filter((word) => word !== word >>> 0)).toEqual([]);
  });

  test('leaves the host table as it was', () => {
    const before = structuredClone(host);
    guestsOf(host, TWO_DIES);
    expect(host).toEqual(before);
  });
});

describe('thousands of topologies', () => {
  const random = seededRandom(6);
  const cases = Array.from({ length: 3000 }, (_, i) => {
    const topology = randomTopology(random, 254);
    const indexes = [0, random.int(0, cpuCount(topology) - 1), cpuCount(topology) - 1];
    const [host, cacheLeaf] = i % 2 === 0 ? ([AMD, 0x8000_001d] as const) : ([INTEL, 4] as const);
    return { topology, cacheLeaf, guests: guestsOf(host, topology, { indexes }) };
  });

  test.each([0xb, 0x1f])('agree with the place of each CPU by leaf %p where it is there', (number) => {
    for (const { topology, guests } of cases) {
      const { core, die } = topologyShifts(topology);
      const having = guests.filter(({ table }) => subleaves(table, number).length > 0);
      expect(having.map(({ table }) => placeByLeaf(table, number))).toEqual(
        having.map(({ cpu }) => ({
          apicId: cpu.apicId,
          socket: cpu.socket,
          coreInSocket: cpu.die * 2 ** (die - core) + cpu.core,
          thread: cpu.thread,
        })),
      );
    }
  });

  test('agree on the id of each CPU in leaf 1 and leaf 0xB', () => {
    for (const { guests } of cases) {
      const ids = guests.map(({ cpu, table }) => [
        cpu.apicId,
        field(leaf(table, 1).ebx, 31, 24),
        leaf(table, 0xb).edx,
      ]);
      expect(ids).toEqual(guests.map(({ cpu }) => [cpu.apicId, cpu.apicId & 0xff, cpu.apicId]));
    }
  });

  test('have one answer to which CPUs share a core, by leaf 0xB and by the first cache', () => {
    for (const { topology, cacheLeaf, guests } of cases) {
      const sharing = guests.map(({ table }) => field(leaf(table, cacheLeaf).eax, 25, 14) + 1);
      const { core } = topologyShifts(topology);
      expect(sharing.map((count) => Math.ceil(Math.log2(count)))).toEqual([core, core, core]);
    }
  });
});
