import { describe, expect, test } from 'bun:test';
import { FEATURE_REGISTERS } from '../../../../src/cpuid/feature-names.ts';
import type { CpuidEntry } from '../../../../src/machine/cpuid-entry.ts';
import {
  brandOf,
  compareCpu,
  featureKey,
  modelOf,
  type CpuNeeds,
  type HostCpu,
} from '../../../../src/vmm/state/cpu-compatibility.ts';
import { AMD, guestsOf, INTEL } from '../../cpuid/hosts.ts';

const TOPOLOGY = { sockets: 1, diesPerSocket: 2, coresPerDie: 2, threadsPerCore: 2 };

function needsOf(host: readonly CpuidEntry[], more: Partial<CpuNeeds> = {}): CpuNeeds {
  const tables = guestsOf(host, TOPOLOGY, { changes: { tscKhz: 2_000_000 } }).map(({ table }) => table);
  return { tables, msrs: new Map(), tscKhz: 2_000_000, ...more };
}

/** The table with bits of one register changed; an entry that is not there is added. */
function withRegister(
  table: readonly CpuidEntry[],
  leaf: number,
  index: number,
  register: 'eax' | 'ebx' | 'ecx' | 'edx',
  change: (value: number) => number,
): CpuidEntry[] {
  const empty = { function: leaf, index, flags: 1, eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const old = table.find((entry) => entry.function === leaf && entry.index === index) ?? empty;
  const rest = table.filter((entry) => entry !== old);
  return [...rest, { ...old, [register]: change(old[register]) >>> 0 }];
}

const hostOf = (cpuid: readonly CpuidEntry[], more: Partial<HostCpu> = {}): HostCpu => ({
  ...{ cpuid, tscDeadline: true, tscKhz: 2_000_000, tscScaling: false },
  ...more,
});
const plain = (needs: CpuNeeds, host: HostCpu) =>
  compareCpu(needs, host).differences.map(
    ({ verdict, where, problem }) => `${verdict}: ${where}: ${problem}`,
  );

describe('a guest fits', () => {
  test.each([
    ['AMD', AMD],
    ['Intel', INTEL],
  ])('the %s host that it was saved on', (_, host) => {
    expect(compareCpu(needsOf(host), hostOf(host))).toEqual({ verdict: 'fine', differences: [] });
  });

  test('a host that has more of everything', () => {
    const more = FEATURE_REGISTERS.reduce<readonly CpuidEntry[]>(
      (table, { leaf, index, register }) => withRegister(table, leaf, index, register, () => 0xffff_ffff),
      AMD,
    );
    const msrs = new Set([0x10, 0x174]);

    const host = hostOf(more, { msrs, tscScaling: true, tscKhz: 3_000_000 });

    expect(plain(needsOf(AMD, { msrs: new Map([[0x10, 5n]]) }), host)).toEqual([]);
  });

  test('a host that knows its features by /proc/cpuinfo alone', () => {
    const known = new Map([[featureKey(1, 0, 'edx'), 0xffff_ffff]]);
    const cpuid = AMD.filter(({ function: leaf }) => leaf <= 1);

    expect(plain(needsOf(AMD), { cpuid, known })).toEqual([]);
  });
});

describe('what is missing', () => {
  /** Set by Volt in the guest's table, or by the guest in CR4; leaf 0x80000001 repeats leaf 1. */
  const passed = ['osxsave', 'hypervisor', 'tsc_deadline_timer', 'ht', 'ospke', 'cmp_legacy', 'topoext'];
  const all = FEATURE_REGISTERS.flatMap((register) =>
    register.names.flatMap((name, bit) =>
      name === undefined || passed.includes(name) ? [] : [{ ...register, name, bit }],
    ),
  );

  test('is refused by its register and its name, whichever feature it is, or is harmless', () => {
    const verdicts = all.map(({ leaf, index, register, name, bit }) => {
      const set = (value: number) => value | (1 << bit);
      const svm = (table: readonly CpuidEntry[]) => withRegister(table, 0x8000_0001, 0, 'ecx', (v) => v | 4);
      const [guest] = needsOf(INTEL).tables;
      const tables = [withRegister(svm(guest!), leaf, index, register, set)];
      const host = withRegister(svm(INTEL), leaf, index, register, (value) => value & ~(1 << bit));
      const found = compareCpu({ tables, msrs: new Map(), tscKhz: 0 }, hostOf(host)).differences;
      const mine = found.filter(({ missing }) => missing.includes(name));
      return { name, count: mine.length, where: mine[0]?.where.endsWith(register.toUpperCase()) };
    });

    expect(all.length).toBeGreaterThan(280);
    expect(verdicts.filter(({ count, where }) => count !== 1 || where !== true)).toEqual([]);
  });

  test('is one line a register', () => {
    const host = withRegister(AMD, 7, 0, 'ebx', () => 0);
    expect(plain(needsOf(INTEL, { tables: [INTEL] }), hostOf(host)).slice(0, 2)).toEqual([
      "refusal: CPUID 0x0: the guest's vendor is GenuineIntel, this host's is AuthenticAMD",
      'warning: CPUID 0x1 EAX: the guest has seen family 6, model 143, stepping 8, this host is family 26, model 2, stepping 1',
    ]);
    const only = withRegister(INTEL, 7, 0, 'ebx', (value) => value & ~((1 << 16) | (1 << 31)));
    expect(plain(needsOf(INTEL), hostOf(only))).toEqual([
      'refusal: CPUID 0x7.0 EBX: this host lacks avx512f, avx512vl',
    ]);
  });

  test('a bit without a name is named by its number', () => {
    const guest = withRegister(AMD, 7, 1, 'eax', () => 1 << 9);
    expect(plain(needsOf(AMD, { tables: [guest] }), hostOf(AMD))).toEqual([
      'refusal: CPUID 0x7.1 EAX: this host lacks bit 9',
    ]);
  });

  test('the TSC deadline timer, which KVM reports by a capability', () => {
    expect(plain(needsOf(AMD), hostOf(AMD, { tscDeadline: false }))).toEqual([
      'refusal: CPUID 0x1 ECX: this host lacks tsc_deadline_timer',
    ]);
  });

  test('nested features count for a guest with SVM only', () => {
    const svm = withRegister(AMD, 0x8000_0001, 0, 'ecx', (value) => value | 4);
    const withoutNpt = withRegister(svm, 0x8000_000a, 0, 'edx', () => 0);
    const guest = withRegister(svm, 0x8000_000a, 0, 'edx', () => 1);
    const blind = withRegister(guest, 0x8000_0001, 0, 'ecx', (value) => value & ~4);

    expect(plain(needsOf(AMD, { tables: [guest] }), hostOf(withoutNpt))).toEqual([
      'refusal: CPUID 0x8000000a EDX: this host lacks npt',
    ]);
    expect(plain(needsOf(AMD, { tables: [blind] }), hostOf(withoutNpt))).toEqual([]);
  });
});

describe('what a guest survives is a warning', () => {
  test('a bit that takes something away', () => {
    const guest = withRegister(AMD, 7, 0, 'ebx', (value) => value | (1 << 6) | (1 << 13));
    const host = withRegister(AMD, 7, 0, 'ebx', (value) => value & ~((1 << 6) | (1 << 13)));
    const { verdict, differences } = compareCpu(needsOf(AMD, { tables: [guest] }), hostOf(host));

    expect(verdict).toBe('warning');
    expect(differences.map(({ missing }) => missing)).toEqual([['fdp_excptn_only', 'zero_fcs_fds']]);
  });

  test('another model or another name of the processor', () => {
    const stepping = withRegister(AMD, 1, 0, 'eax', (value) => value + 1);
    const brand = withRegister(AMD, 0x8000_0002, 0, 'eax', () => 0x2041_4141);
    const ours = brandOf(AMD);

    expect(plain(needsOf(AMD), hostOf(stepping))).toEqual([
      `warning: CPUID 0x1 EAX: the guest has seen ${modelOf(AMD)}, this host is ${modelOf(stepping)}`,
    ]);
    expect(plain(needsOf(AMD), hostOf(brand))).toEqual(
      ours === ''
        ? []
        : [`warning: CPUID 0x80000002: the guest has seen a ${ours}, this host is a ${brandOf(brand)}`],
    );
  });

  test('fewer physical address bits', () => {
    const host = withRegister(AMD, 0x8000_0008, 0, 'eax', (value) => (value & ~0xff) | 40);
    expect(plain(needsOf(AMD), hostOf(host))).toEqual([
      expect.stringMatching(
        /^warning: CPUID 0x80000008 EAX: the guest counts on \d\d physical address bits of 40$/,
      ),
    ]);
  });
});

test('a state component of XSAVE with another size or place is refused', () => {
  const host = withRegister(AMD, 0xd, 2, 'ebx', () => 832);
  expect(plain(needsOf(AMD), hostOf(host))).toEqual([
    'refusal: CPUID 0xd.2: AVX state has 256 bytes at 576, on this host 256 at 832',
  ]);
});

test('fewer performance counters are refused', () => {
  const guest = withRegister(INTEL, 0xa, 0, 'eax', () => 0x0730_0802);
  const host = withRegister(INTEL, 0xa, 0, 'eax', () => 0x0730_0402);
  expect(plain(needsOf(INTEL, { tables: [guest] }), hostOf(host))).toEqual([
    'refusal: CPUID 0xa: performance counters: 8, and this host has 4',
  ]);
});

describe('MSRs', () => {
  const msrs = new Map([
    [0x10, 1n],
    [0xc000_0082, 0xffff_ffff_8100_0000n],
    [0x1234, 7n],
    [0xda0, 0n],
  ]);

  test('with a value that the host cannot hold are refused, by name; those with 0 are a warning', () => {
    const { differences } = compareCpu(needsOf(AMD, { msrs }), hostOf(AMD, { msrs: new Set([0x10]) }));
    expect(differences.map(({ verdict, problem }) => [verdict, problem])).toEqual([
      ['refusal', "this host's KVM lacks LSTAR (0xc0000082), 0x1234"],
      ['warning', "this host's KVM lacks IA32_XSS (0xda0), which the guest has 0 in"],
    ]);
  });

  test('of a host that does not say are not compared', () => {
    expect(plain(needsOf(AMD, { msrs }), hostOf(AMD))).toEqual([]);
  });
});

describe('the TSC', () => {
  test.each<[string, number, Partial<HostCpu>, string[]]>([
    ['has the same frequency within what KVM tolerates', 2_000_400, {}, []],
    ['is scaled', 2_500_000, { tscScaling: true }, []],
    ['of the guest is unknown', 0, {}, []],
    ['of the host is unknown', 2_500_000, { tscKhz: 0 }, []],
    [
      'cannot be scaled',
      2_500_000,
      {},
      [
        "refusal: TSC: the guest's TSC runs at 2500000 kHz, this host's at 2000000 kHz, and KVM cannot scale it",
      ],
    ],
  ])('%s', (_, tscKhz, host, expected) => {
    expect(plain(needsOf(AMD, { tscKhz }), hostOf(AMD, host))).toEqual(expected);
  });

  test('may be scaled where nobody knows', () => {
    const host: HostCpu = { cpuid: AMD, tscKhz: 2_000_000 };
    expect(compareCpu(needsOf(AMD, { tscKhz: 1_000_000 }), host).verdict).toBe('warning');
  });
});

test('a hostile table is compared to the end: no entries, entries twice, any values', () => {
  const twice = [...AMD, ...AMD].map((entry) => ({ ...entry, eax: 0xffff_ffff }));
  expect(compareCpu(needsOf(AMD, { tables: [[]] }), hostOf(AMD)).verdict).toBe('refusal');
  expect(compareCpu(needsOf(AMD), hostOf([])).verdict).toBe('refusal');
  expect(compareCpu(needsOf(AMD, { tables: [twice] }), hostOf(AMD)).verdict).toBe('refusal');
});
