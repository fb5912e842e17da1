import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import type { MemoryWrite } from '../../../src/boot/boot-plan.ts';
import { MIB } from '../../../src/machine/address.ts';
import { readConfigTable } from '../../../src/smp/mp-table-read.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { inspectPlan } from '../../../src/plan/inspection.ts';
import { needsPit, planCpuid, planImage, planMachine } from '../../../src/plan/plan.ts';
import { buildBzImage, buildElf, initrdOf, LINUX_NOTE, multibootHeader, pvhNote } from '../boot/images.ts';
import { AMD, field, INTEL, leaf } from '../cpuid/hosts.ts';
import { readHexVector } from '../support/vectors.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

interface Wanted {
  readonly kernel?: Uint8Array;
  readonly cpus?: number;
  readonly smt?: boolean;
  readonly cmdline?: string;
  readonly tscDeadline?: boolean;
  readonly initrd?: boolean;
  readonly memoryMib?: number;
  readonly acpi?: boolean;
  readonly vmGenerationId?: Uint8Array;
  /** Of files that the machine has as persistent memory. */
  readonly pmemBytes?: readonly number[];
}

const VMLINUX = buildElf({ notes: LINUX_NOTE });

function planFor(wanted: Wanted = {}) {
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: 'kernel', boot_args: wanted.cmdline ?? 'console=ttyS0' },
    'machine-config': {
      vcpu_count: wanted.cpus ?? 2,
      smt: wanted.smt ?? false,
      mem_size_mib: wanted.memoryMib ?? 64,
    },
    volt: { acpi: wanted.acpi ?? true },
    pmem: (wanted.pmemBytes ?? []).map((_, i) => ({ id: `pmem${i}`, path_on_host: `${i}` })),
  });
  const kernel = bytesAsSource('kernel', wanted.kernel ?? VMLINUX);
  const image = planImage(config, kernel, wanted.initrd ? initrdOf(5000) : undefined);
  const files = { pmemBytes: wanted.pmemBytes ?? [] };
  return planMachine(
    config,
    image,
    { tscDeadline: wanted.tscDeadline ?? true, vmGenerationId: wanted.vmGenerationId ?? new Uint8Array(16) },
    files,
  );
}

const timerKind = (wanted: Wanted) =>
  readConfigTable(planFor(wanted).mpTables!.configTable.bytes).value!.entries.flatMap((entry) =>
    entry.type === 'io-interrupt' && entry.sourceIrq === 0 ? [entry.kind] : [],
  );

describe('persistent memory', () => {
  const GIB = 1024 * MIB;

  test.each<[string, number, readonly number[], readonly [number, number][]]>([
    ['lies from 4 GiB on', 64, [8 * MIB], [[4 * GIB, 8 * MIB]]],
    ['lies in the next GiB behind RAM', 4096, [8 * MIB], [[5 * GIB, 8 * MIB]]],
    ['lies behind RAM that ends in the middle of a GiB', 3072 + 1030, [8 * MIB], [[6 * GIB, 8 * MIB]]],
    [
      'lies one after the other',
      64,
      [GIB + 2 * MIB, 2 * MIB],
      [
        [4 * GIB, GIB + 2 * MIB],
        [6 * GIB, 2 * MIB],
      ],
    ],
    ['is filled up to 2 MiB', 64, [3 * MIB + 1], [[4 * GIB, 4 * MIB]]],
  ])('%s', (_what, memoryMib, pmemBytes, places) => {
    const { pmem } = planFor({ memoryMib, pmemBytes });

    expect(pmem.map(({ address, bytes }): [number, number] => [address, bytes])).toEqual([...places]);
    expect(pmem.map(({ fileBytes }) => fileBytes)).toEqual([...pmemBytes]);
  });

  test('is no RAM: the E820 map does not have it, and nothing overlaps', () => {
    const plan = planFor({ memoryMib: 4096, pmemBytes: [8 * MIB] });

    const { e820, problems, devices, pmem } = inspectPlan(plan, '', 'GenuineIntel');

    const end = Math.max(...e820.map(({ address, bytes }) => address + bytes));
    expect(end).toBeLessThanOrEqual(pmem[0]!.address);
    expect(devices).toMatchObject([{ id: 'pmem0', kind: 'pmem', gsi: 5 }]);
    expect(problems).toEqual([]);
  });

  test('that overlapped RAM would be found by volt inspect', () => {
    const plan = planFor({ memoryMib: 4096, pmemBytes: [8 * MIB] });
    const pmem = [{ ...plan.pmem[0]!, address: plan.ranges[1]!.address }];

    expect(inspectPlan({ ...plan, pmem }, '', 'GenuineIntel').problems).toEqual(['RAM and pmem0 overlap']);
  });
});

describe('needsPit', () => {
  test.each([
    ['console=ttyS0 quiet', false],
    ['', false],
    ['lapic=notscdeadline', true],
    ['quiet notscdeadline', true],
    ['nolapic quiet', true],
    ['quiet\tnolapic_timer', true],
    ['disableapic', true],
    ['noapictimer', true],
    ['xnolapic', false],
    ['nolapicx', false],
    ['init=/nolapic', false],
    ['lapic=notscdeadlines', false],
    ['a nolapic_timer b', true],
  ])('with %p on a host with TSC deadline is %p', (cmdline, expected) => {
    expect(needsPit(cmdline, true)).toBe(expected);
  });

  test('is true on every host without TSC deadline', () => {
    expect(needsPit('console=ttyS0', false)).toBe(true);
  });
});

describe('the MP tables of a plan', () => {
  test.each([
    [1, '1-cpu'],
    [2, '2-cpus'],
    [4, '4-cpus'],
  ])('for %p CPUs are the golden ones', (cpus, vector) => {
    const { floatingPointer, configTable } = planFor({ cpus }).mpTables!;
    expect([...floatingPointer.bytes, ...configTable.bytes]).toEqual([
      ...readHexVector(`mp-table/${vector}.hex`),
    ]);
  });

  test('say ExtINT where the guest has TSC deadline, INT where it will need the PIT', () => {
    expect(timerKind({})).toEqual(['ExtINT']);
    expect(timerKind({ tscDeadline: false })).toEqual(['INT']);
    expect(timerKind({ cmdline: 'console=ttyS0 lapic=notscdeadline' })).toEqual(['INT']);
  });
});

describe('the writes of a plan', () => {
  const pvh = buildElf({ notes: pvhNote(MIB) });
  const multiboot = buildElf({
    bits: 32,
    content: Uint8Array.of(...multibootHeader(3), ...new Uint8Array(64)),
  });

  test.each([
    ['vmlinux', VMLINUX],
    ['bzImage', buildBzImage()],
    ['PVH', pvh],
    ['Multiboot', multiboot],
  ])('of a %s ascend and overlap neither each other nor what is loaded', (_, kernel) => {
    for (const cpus of [1, 41, 42, 254]) {
      const plan = planFor({ kernel, cpus, initrd: true });
      const ends = (at: { address: number }, bytes: number) => [at.address, at.address + bytes] as const;
      const writes = plan.writes.map((write) => ends(write, write.bytes.length));
      const all = [...writes, ...plan.loads.map((load) => ends(load, load.memoryBytes))].sort(
        (a, b) => a[0] - b[0],
      );
      expect(writes).toEqual(writes.toSorted((a, b) => a[0] - b[0]));
      expect(all.slice(1).filter((range, i) => all[i]![1] > range[0])).toEqual([]);
    }
  });

  test('are named once each, and have what every machine has', () => {
    const names = planFor().writes.map((write) => write.name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual([
      'interrupt-vectors',
      'bios-data-area',
      'gdt',
      'zero-page',
      'page-tables',
      'command-line',
      'mp-floating-pointer',
      'mp-config-table',
      'acpi-xsdt',
      'acpi-dsdt',
      'acpi-fadt',
      'acpi-madt',
      'acpi-pptt',
      'acpi-spcr',
      'acpi-rsdt',
      'vm-generation-id',
      'acpi-rsdp',
      'real-mode-handlers',
      'reset-vector',
    ]);
  });
});

describe('the VM generation ID', () => {
  const idIn = (plan: ReturnType<typeof planFor>) =>
    plan.writes.filter(({ name }) => name === 'vm-generation-id');

  test('is written as it is given, where the DSDT has its address', () => {
    const plan = planFor({ vmGenerationId: Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i) });
    const dsdt = plan.writes.find(({ name }) => name === 'acpi-dsdt')!;

    const [{ address, bytes }] = idIn(plan) as [MemoryWrite];

    expect(Buffer.from(bytes).toString('hex')).toBe('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff');
    const value = Uint8Array.of(0x0c, address & 0xff, (address >>> 8) & 0xff, address >>> 16, 0, 0);
    expect(Buffer.from(dsdt.bytes).indexOf(value)).toBeGreaterThan(0);
  });

  test('is not there without ACPI', () => {
    expect(idIn(planFor({ acpi: false }))).toEqual([]);
  });
});

describe('the CPUs of a plan', () => {
  test('are as many as asked for, with threads where SMT is on', () => {
    const plan = planFor({ cpus: 5, smt: true });
    expect(plan.topology).toEqual({ sockets: 1, diesPerSocket: 1, coresPerDie: 3, threadsPerCore: 2 });
    expect(plan.cpus.map(({ apicId, core, thread }) => [apicId, core, thread])).toEqual([
      [0, 0, 0],
      [1, 0, 1],
      [2, 1, 0],
      [3, 1, 1],
      [4, 2, 0],
    ]);
  });

  test.each([
    ['AMD', AMD],
    ['Intel', INTEL],
  ])('have on an %s host the APIC ids of the MP tables', (_, cpuid) => {
    const plan = planFor({ cpus: 6, smt: true });
    const host = { cpuid, tscDeadline: true, tscKhz: 2_000_000 };
    const tables = plan.cpus.map((cpu) => planCpuid(plan, cpu, host));
    const listed = readConfigTable(plan.mpTables!.configTable.bytes).value!.entries.flatMap((entry) =>
      entry.type === 'processor' ? [entry.apicId] : [],
    );
    expect(tables.map((table) => field(leaf(table, 1).ebx, 31, 24))).toEqual(listed);
    expect(tables.map((table) => leaf(table, 0xb).edx)).toEqual(listed);
  });
});

describe('an inspection', () => {
  test.each([
    ['GenuineIntel', 1],
    ['GenuineIntel', 254],
    ['AuthenticAMD', 3],
    ['AuthenticAMD', 254],
  ] as const)('on %s of a plan for %p CPUs finds no problem', (vendor, cpus) => {
    for (const smt of [false, true]) {
      const { problems, cpus: inspected } = inspectPlan(planFor({ cpus, smt }), 'quiet', vendor);
      expect(problems).toEqual([]);
      expect(inspected.length).toBe(cpus);
    }
  });

  test('counts the bytes of both MP structures', () => {
    const sizes = [1, 2, 4].map((cpus) => inspectPlan(planFor({ cpus }), '', 'GenuineIntel').mpTables!.bytes);
    expect(sizes).toEqual([224, 244, 284]);
  });

  test('finds MP tables that were changed', () => {
    const plan = planFor({ cpus: 2 });
    plan.mpTables!.configTable.bytes[44 + 20 + 1] = 3;
    expect(inspectPlan(plan, '', 'GenuineIntel').problems).toEqual([
      'MP configuration table: the bytes sum to 2 (expected 0)',
      'CPU 1: the APIC id in the MP tables is 3 (expected 1)',
    ]);
  });
});
