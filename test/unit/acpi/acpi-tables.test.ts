import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { AcpiInputs } from '../../../src/acpi/acpi-inputs.ts';
import { buildAcpiTables } from '../../../src/acpi/acpi-tables.ts';
import { byteSum } from '../../../src/binary/checksum.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { voltErrorOf } from '../support/errors.ts';
import { seededRandom } from '../support/random.ts';
import { coresOnly, cpusOf, machineOf, numaOf, randomMachine, virtioDevices } from './machines.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

function namesOf(inputs: AcpiInputs): string[] {
  return buildAcpiTables(inputs).tables.map(({ name }) => name);
}

function machineWithEverything(cpus: number): AcpiInputs {
  const topology = { sockets: 1, diesPerSocket: 1, coresPerDie: cpus / 2, threadsPerCore: 2 };
  return machineOf(cpusOf(topology, 1, 2), { cpuHotplug: true, numa: numaOf(2), virtio: virtioDevices(8) });
}

describe('which tables there are', () => {
  test('a plain machine has those that every machine has, in ascending order, the RSDP last', () => {
    expect(namesOf(machineOf(cpusOf(coresOnly(2))))).toEqual([
      'acpi-xsdt',
      'acpi-dsdt',
      'acpi-fadt',
      'acpi-madt',
      'acpi-pptt',
      'acpi-spcr',
      'acpi-rsdt',
      'acpi-rsdp',
    ]);
  });

  test('nodes add SRAT and SLIT, and HMAT where latency or bandwidth is known', () => {
    const { memory, distances, latency } = numaOf(2);
    const cpus = cpusOf(coresOnly(2), 2, 2);
    const plain = namesOf(machineOf(cpus, { numa: { memory, distances } }));
    const withLatency = namesOf(machineOf(cpus, { numa: { memory, distances, latency: latency! } }));
    expect(plain).toEqual(expect.arrayContaining(['acpi-srat', 'acpi-slit']));
    expect(plain).not.toContain('acpi-hmat');
    expect(withLatency).toContain('acpi-hmat');
  });

  test('without COM1 there is no SPCR', () => {
    expect(namesOf(machineOf(cpusOf(coresOnly(2)), { serial: false }))).not.toContain('acpi-spcr');
  });
});

describe('where they are', () => {
  test('the RSDP is where firmware puts it, on a 16-byte boundary below 1 MiB', () => {
    const { rsdp, tables } = buildAcpiTables(machineOf(cpusOf(coresOnly(2))));
    expect(rsdp).toBe(LAYOUT.acpiRsdp.address);
    expect(rsdp % 16).toBe(0);
    expect(rsdp).toBeGreaterThanOrEqual(0xe_0000);
    expect(tables.at(-1)!.address).toBe(rsdp);
  });

  test('all have their place, overlap nowhere and add up to 0, whatever the machine', () => {
    const random = seededRandom(1);
    for (let round = 0; round < 300; round++) {
      const { tables } = buildAcpiTables(randomMachine(random, 64));
      const ends = tables.map(({ address, bytes }) => address + bytes.length);
      const overlapping = tables.slice(1).filter(({ address }, i) => address < ends[i]!);
      const inRow = tables.slice(0, -1);

      expect(overlapping).toEqual([]);
      expect(inRow.every(({ address }) => address >= LAYOUT.acpiTables.address)).toBe(true);
      expect(ends.at(-2)!).toBeLessThanOrEqual(LAYOUT.acpiTables.address + LAYOUT.acpiTables.bytes);
      expect(ends.at(-1)!).toBeLessThanOrEqual(LAYOUT.acpiRsdp.address + LAYOUT.acpiRsdp.bytes);
      expect(tables.map(({ bytes }) => byteSum(bytes))).toEqual(tables.map(() => 0));
    }
  });
});

describe('how much fits', () => {
  test('1000 CPUs that may be plugged, in two nodes, with threads and eight devices', () => {
    const { tables } = buildAcpiTables(machineWithEverything(1000));
    const bytes = tables.reduce((sum, table) => sum + table.bytes.length, 0);
    expect(bytes).toBeLessThan(LAYOUT.acpiTables.bytes);
  });

  test('too many are refused, and the number that is named as the most is', () => {
    const { code, message } = voltErrorOf(() => buildAcpiTables(machineWithEverything(2000)));
    const most = Number(/use at most (\d+) CPUs/.exec(message)?.[1]);
    const upTo = (cpus: number) => {
      const inputs = machineWithEverything(2000);
      return buildAcpiTables({ ...inputs, cpus: inputs.cpus.slice(0, cpus) });
    };

    expect(code).toBe('usage');
    expect(message).toMatch(
      /^Cannot build the ACPI tables of 2000 CPUs: they need \d+ bytes, and there is space for 196352; use at most \d+ CPUs with this topology$/,
    );
    expect(most).toBeGreaterThan(1000);
    expect(upTo(most).tables.length).toBe(11);
    expect(voltErrorOf(() => upTo(most + 1)).code).toBe('usage');
  });
});
