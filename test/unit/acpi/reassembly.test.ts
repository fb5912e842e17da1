import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { LOCAL_X2APIC, MADT, MADT_TYPE } from '../../../src/acpi/acpi.layout.ts';
import type { AcpiInputs } from '../../../src/acpi/acpi-inputs.ts';
import { buildAcpiTables } from '../../../src/acpi/acpi-tables.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { acpicaMissing, reassemble } from './acpica.ts';
import { coresOnly, cpusOf, machineOf, numaOf, pciOf, virtioDevices } from './machines.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const CPU_COUNTS = [1, 2, 4, 64, 255, 300, 1000];

const KINDS: readonly (readonly [string, (cpus: number) => AcpiInputs])[] = [
  ['plain', (cpus) => machineOf(cpusOf(coresOnly(cpus)))],
  ['without COM1', (cpus) => machineOf(cpusOf(coresOnly(cpus)), { serial: false })],
  ['in two nodes', (cpus) => machineOf(cpusOf(coresOnly(cpus), cpus, 2), { numa: numaOf(2) })],
  ['half of them to be plugged', (cpus) => machineOf(cpusOf(coresOnly(cpus), cpus / 2 + 1), { cpuHotplug: true })],
  ['with 16 virtio devices', (cpus) => machineOf(cpusOf(coresOnly(cpus)), { virtio: virtioDevices(16) })],
  ['with a PCI bus', (cpus) => machineOf(cpusOf(coresOnly(cpus)), { pci: pciOf(1) })],
  [
    'with everything',
    (cpus) => {
      const topology = { sockets: 1, diesPerSocket: 1, coresPerDie: Math.ceil(cpus / 2), threadsPerCore: 2 };
      const all = cpusOf(topology, cpus / 2 + 1, 4);
      return machineOf(all, {
        cpuHotplug: true,
        numa: numaOf(4),
        virtio: virtioDevices(16),
        pci: pciOf(2),
        vmGenerationId: LAYOUT.vmGenerationId.address,
      });
    },
  ],
]; // prettier-ignore

const MACHINES = CPU_COUNTS.flatMap((cpus) =>
  KINDS.map(([kind, build]) => [cpus, kind, build(cpus)] as const),
);

/** A table without what a compiler makes its own: checksum, compiler and its version. */
function comparable(table: Uint8Array): string {
  const copy = table.slice();
  copy.fill(0, 9, 10);
  copy.fill(0, 28, 36);
  return Buffer.from(copy).toString('hex');
}

/** iasl 20200925 does not know the "online capable" flag of x2APIC structures, and drops it. */
function withoutOnlineCapableX2apics(madt: Uint8Array): Uint8Array {
  const copy = madt.slice();
  for (let at: number = MADT.size; at < copy.length; at += copy[at + 1]!) {
    if (copy[at] === MADT_TYPE.localX2apic) copy[at + LOCAL_X2APIC.flags]! &= 1;
  }
  return copy;
}

describe.skipIf(acpicaMissing)(
  'iasl takes every table apart and puts it together again, byte for byte (needs iasl)',
  () => {
    test.each(MACHINES)('%p CPUs, %s', (_cpus, _kind, inputs) => {
      const tables = buildAcpiTables(inputs).tables.filter(({ name }) => name !== 'acpi-rsdp');
      const results = tables.map(({ name, bytes }) => ({ name, ...reassemble(bytes) }));
      const expected = tables.map(({ name, bytes }) =>
        comparable(name === 'acpi-madt' ? withoutOnlineCapableX2apics(bytes) : bytes),
      );

      expect(results.map(({ name, complaints, verdict }) => ({ name, complaints, verdict }))).toEqual(
        tables.map(({ name }) => ({ name, complaints: [], verdict: '0 Errors, 0 Warnings, 0 Remarks' })),
      );
      expect(results.map(({ aml }) => comparable(aml))).toEqual(expected);
    });
  },
);
