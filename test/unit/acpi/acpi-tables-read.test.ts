import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { AcpiCpu, AcpiInputs } from '../../../src/acpi/acpi-inputs.ts';
import { buildAcpiTables } from '../../../src/acpi/acpi-tables.ts';
import { readAcpiTables, type AcpiContents } from '../../../src/acpi/acpi-tables-read.ts';
import { mutate, seededRandom } from '../support/random.ts';
import { coresOnly, cpusOf, machineOf, numaOf, randomMachine } from './machines.ts';
import { memoryOf, readerOf, tamper } from './memory.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

function readBack(inputs: AcpiInputs): AcpiContents {
  return readAcpiTables(readerOf(memoryOf(buildAcpiTables(inputs))));
}

/** Two nodes, 300 cores: structures of both kinds, every table. */
const LARGE = machineOf(cpusOf(coresOnly(300), 200, 2), { cpuHotplug: true, numa: numaOf(2) });

/** What the reader says of LARGE after `change` was made to the table called `name`. */
function problemsAfter(name: string, change: (table: Uint8Array, view: DataView) => void): readonly string[] {
  const tables = buildAcpiTables(LARGE);
  const memory = memoryOf(tables);
  tamper(memory, tables, name, change);
  return readAcpiTables(readerOf(memory)).problems;
}

function sameGroup(a: AcpiCpu, b: AcpiCpu, levels: readonly (keyof AcpiCpu)[]): boolean {
  return levels.every((level) => a[level] === b[level]);
}

describe('what was built reads back', () => {
  test('1000 random machines without a problem, and every CPU, node and device number as it was meant', () => {
    const random = seededRandom(2);
    for (let round = 0; round < 1000; round++) {
      const inputs = randomMachine(random, random.pick([8, 64, 300]));
      const { problems, madt, srat, distances, rsdp } = readBack(inputs);
      const nodeIds = inputs.cpus.map(({ apicId, node }) => ({ apicId, node: node! }));

      expect(problems).toEqual([]);
      expect(rsdp).toBe(0xe_ffc0);
      expect(
        madt!.processors.map(({ uid, apicId, enabled, onlineCapable }) => ({
          uid,
          apicId,
          enabled,
          onlineCapable,
        })),
      ).toEqual(
        inputs.cpus.map(({ uid, apicId, present }) => ({
          uid,
          apicId,
          enabled: present,
          onlineCapable: !present && inputs.cpuHotplug,
        })),
      );
      expect(srat?.cpus).toEqual(inputs.numa && nodeIds);
      expect(srat?.memory).toEqual(inputs.numa?.memory as NonNullable<typeof srat>['memory']);
      expect(distances).toEqual(inputs.numa?.distances);
    }
  });

  test('random topologies: two CPUs share a package, a die or a core in the PPTT just when they do so in truth', () => {
    const random = seededRandom(3);
    for (let round = 0; round < 100; round++) {
      const { cpus, ...rest } = randomMachine(random, 24);
      const read = readBack({ cpus, ...rest }).pptt!;
      const paths = new Map(read.cpus.map(({ uid, path }) => [uid, path]));
      const levels = [
        ['socket'],
        ...(cpus.some((cpu) => cpu.die > 0) ? [['socket', 'die']] : []),
        ['socket', 'die', 'core'],
        ...(cpus.some((cpu) => cpu.thread > 0) ? [['socket', 'die', 'core', 'thread']] : []),
      ] as (keyof AcpiCpu)[][];
      const pairs = cpus.flatMap((a) => cpus.map((b) => [a, b] as const));
      const inTruth = pairs.map(([a, b]) => levels.map((level) => sameGroup(a, b, level)));
      const inTable = pairs.map(([a, b]) => {
        const [pathA, pathB] = [paths.get(a.uid)!, paths.get(b.uid)!];
        return pathA.map((_, depth) => `${pathA.slice(0, depth + 1)}` === `${pathB.slice(0, depth + 1)}`);
      });

      expect(inTable).toEqual(inTruth);
      expect(read.packages).toBe(new Set(cpus.map((cpu) => cpu.socket)).size);
      expect(read.cpus.map((cpu) => cpu.uid)).toEqual(cpus.map((cpu) => cpu.uid));
    }
  });

  test('the tables are found by way of RSDP, XSDT and FADT', () => {
    expect(readBack(LARGE).tables.map((table) => table.signature)).toEqual([
      'XSDT',
      'FACP',
      'APIC',
      'SRAT',
      'SLIT',
      'HMAT',
      'PPTT',
      'SPCR',
      'DSDT',
    ]);
  });

  test('the FADT says hardware-reduced ACPI 6.5 and where to reset, sleep and ask the keyboard controller', () => {
    expect(readBack(machineOf(cpusOf(coresOnly(2)))).fadt).toMatchObject({
      revision: '6.5',
      hardwareReduced: true,
      physicalDestinations: false,
      i8042: true,
      resetPort: 0xcf9,
      resetValue: 6,
      sleepControlPort: 0x600,
      sleepStatusPort: 0x601,
    });
  });

  test.each([
    ['8 CPUs with ids below 8', [0, 1, 2, 3, 4, 5, 6, 7], false],
    ['9 CPUs', [0, 1, 2, 3, 4, 5, 6, 7, 8], true],
    ['2 CPUs, one with id 8', [0, 8], true],
  ])('%s: physical destination mode is forced where logical mode has no bits', (_, apicIds, forced) => {
    const cpus = apicIds.map((apicId, uid) => ({ ...cpusOf(coresOnly(9))[uid]!, uid, apicId }));
    expect(readBack(machineOf(cpus)).fadt!.physicalDestinations).toBe(forced);
  });

  test('the MADT has an I/O APIC from GSI 0, IRQ 9 as edge-triggered and active high, and NMIs on LINT1', () => {
    expect(readBack(LARGE).madt).toMatchObject({
      localApicAddress: 0xfee0_0000,
      pcAt: true,
      ioApics: [{ id: 0, address: 0xfec0_0000, firstGsi: 0 }],
      overrides: [{ irq: 9, gsi: 9, edge: true, activeHigh: true }],
      nmis: [
        { kind: 'apic', uid: 0xff, lint: 1 },
        { kind: 'x2apic', uid: 0xffff_ffff, lint: 1 },
      ],
    });
  });

  test('ids up to 254 are in local APIC structures, those above in x2APIC ones', () => {
    const kinds = readBack(LARGE).madt!.processors.map((cpu) => cpu.kind);
    expect(kinds.lastIndexOf('apic')).toBe(254);
    expect(kinds.indexOf('x2apic')).toBe(255);
  });

  test('without CPUs above 254 there is no x2APIC structure at all', () => {
    const { processors, nmis } = readBack(machineOf(cpusOf(coresOnly(255)))).madt!;
    expect([...processors, ...nmis].filter(({ kind }) => kind === 'x2apic')).toEqual([]);
  });

  test('without CPUs below 255 there is no local APIC structure either', () => {
    const cpu = { ...cpusOf(coresOnly(1))[0]!, apicId: 300 };
    const { processors, nmis } = readBack(machineOf([cpu], { cpuHotplug: true })).madt!;
    expect([...processors, ...nmis].map(({ kind }) => kind)).toEqual(['x2apic', 'x2apic']);
  });

  test('a UID that the old structure has no room for goes into an x2APIC one, whatever the APIC id', () => {
    const cpus = [
      { ...cpusOf(coresOnly(1))[0]!, uid: 0 },
      { ...cpusOf(coresOnly(2))[1]!, uid: 300 },
    ];
    expect(readBack(machineOf(cpus)).madt!.processors.map(({ kind, uid }) => [kind, uid])).toEqual([
      ['apic', 0],
      ['x2apic', 300],
    ]);
  });
});

describe('what is wrong is said', () => {
  test('no RSDP', () => {
    const { rsdp, tables, problems } = readAcpiTables(readerOf(new Uint8Array(0x10_0000)));
    expect({ rsdp, tables }).toEqual({ rsdp: undefined, tables: [] });
    expect(problems).toEqual(['RSDP: not found from 0xe0000 to 0xfffff']);
  });

  test('a checksum', () => {
    const tables = buildAcpiTables(LARGE);
    const memory = memoryOf(tables);
    const madt = tables.tables.find(({ name }) => name === 'acpi-madt')!;
    memory[madt.address + 16]! += 3;
    expect(readAcpiTables(readerOf(memory)).problems).toEqual(['APIC: the bytes sum to 3 (expected 0)']);
  });

  test('a checksum of the RSDP, at the address it is said to have', () => {
    const memory = memoryOf(buildAcpiTables(LARGE));
    memory[0xe_ffc0 + 35] = 1;
    expect(readAcpiTables(readerOf(memory), 0xe_ffc0).problems).toEqual([
      'RSDP: the first 20 and all 36 bytes sum to 0 and 1 (expected 0)',
    ]);
  });

  test.each<[string, string, (table: Uint8Array, view: DataView) => void, string]>([
    ['a length', 'acpi-srat', (_, v) => v.setUint32(4, 0xfff_ffff, true), 'SRAT: the length is 268435455'],
    ['an APIC id twice', 'acpi-madt', (t) => (t[44 + 8 + 3] = 0), 'MADT: APIC id 0 is used twice'],
    ['a UID twice', 'acpi-madt', (t) => (t[44 + 8 + 2] = 0), 'MADT: processor UID 0 is used twice'],
    ['the broadcast id', 'acpi-madt', (t) => (t[44 + 8 + 3] = 255), 'MADT: processor 1 has the broadcast id'],
    ['both flags', 'acpi-madt', (t) => (t[44 + 4] = 3), 'MADT: processor 0 is both enabled and online capable'],
    ['a structure without length', 'acpi-madt', (t) => (t[44 + 1] = 0), 'MADT: the structure at offset 0x2c'],
    ['an APIC id that the SRAT lacks', 'acpi-srat', (t) => (t[48 + 4] = 0), 'SRAT: APIC id 0 of the MADT is missing'],
    ['memory that overlaps', 'acpi-srat', (_, v) => v.setUint32(v.byteLength - 32, 0, true), 'SRAT: memory ranges of node 0 and node 1 overlap'],
    ['a node that the SLIT lacks', 'acpi-srat', (t) => (t[48 + 2] = 2), 'SLIT: node 2 of the SRAT is missing'],
    ['a distance to itself', 'acpi-slit', (t) => (t[44] = 11), 'SLIT: the distance from node 0 to itself is 11 (expected 10)'],
    ['a distance too small', 'acpi-slit', (t) => (t[45] = 9), 'SLIT: the distance from node 0 to node 1 is 9 (expected 10 or more)'],
    ['too few distances', 'acpi-slit', (t) => (t[36] = 3), 'SLIT: 4 bytes of distances for 3 nodes (expected 9)'],
    ['a processor twice', 'acpi-pptt', (t) => (t[36 + 20 + 12] = 1), 'PPTT: processor UID 1 is used twice'],
    ['a parent that comes later', 'acpi-pptt', (t) => (t[36 + 20 + 8] = 99), 'PPTT: the parent of the node at offset 0x38'],
    ['a node that is its own parent', 'acpi-pptt', (t) => (t[36 + 8] = 36), 'PPTT: the parent of the node at offset 0x24'],
    ['no package', 'acpi-pptt', (t) => (t[36 + 4] = 0), 'PPTT: processor 0 is in 0 packages (expected 1)'],
    ['no sleep register', 'acpi-fadt', (t) => t.fill(0, 0xf4, 0x10c), 'FADT: hardware-reduced ACPI is set, but there are no sleep'],
    ['no reset register', 'acpi-fadt', (t) => t.fill(0, 0x74, 0x80), 'FADT: RESET_REG_SUP is set, but the reset register'],
    ['an RSDT with other addresses', 'acpi-rsdt', (_, v) => v.setUint32(36, 16, true), 'RSDT: it lists 0x10, 0x'],
    ['a piece of an address', 'acpi-rsdt', (_, v) => v.setUint32(4, 39, true), 'RSDT: 3 bytes of addresses'],
    ['two DSDTs', 'acpi-fadt', (_, v) => v.setUint32(0x28, 16, true), 'FADT: DSDT and X_DSDT differ'],
  ])('%s', (_, name, change, problem) => {
    const problems = problemsAfter(name, change);
    expect(problems.some((text) => text.startsWith(problem))).toBe(true);
  }); // prettier-ignore

  test('any byte of any table that changes', () => {
    const tables = buildAcpiTables(
      machineOf(cpusOf(coresOnly(2), 2, 2), { cpuHotplug: true, numa: numaOf(2) }),
    );
    const memory = memoryOf(tables);
    const addresses = tables.tables.flatMap(({ address, bytes }) =>
      Array.from(bytes, (_, offset) => address + offset),
    );
    const unnoticed = addresses.filter((address) => {
      memory[address]! ^= 0x10;
      const { problems } = readAcpiTables(readerOf(memory), tables.rsdp);
      memory[address]! ^= 0x10;
      return problems.length === 0;
    });
    expect(addresses.length).toBeGreaterThan(1500);
    expect(unnoticed).toEqual([]);
  });

  test('5000 damaged memories are read to the end all the same', () => {
    const random = seededRandom(4);
    const tables = buildAcpiTables(machineOf(cpusOf(coresOnly(4), 4, 2), { numa: numaOf(2) }));
    const memory = memoryOf(tables);
    const [first, last] = [tables.tables[0]!, tables.tables.at(-2)!];
    const whole = memory.slice(first.address, last.address + last.bytes.length);
    for (let round = 0; round < 5000; round++) {
      const damaged = memory.slice();
      damaged.set(mutate(random, whole), first.address);
      expect(() => readAcpiTables(readerOf(damaged), tables.rsdp)).not.toThrow();
    }
  });
});
