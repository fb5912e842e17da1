import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { byteSum } from '../../../src/binary/checksum.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { EBDA_END, LAYOUT } from '../../../src/machine/layout.ts';
import { buildMpTables, MP_TABLE_MAX_CPUS, type MpTables } from '../../../src/smp/mp-table.ts';
import { readConfigTable, readFloatingPointer } from '../../../src/smp/mp-table-read.ts';
import { voltErrorOf } from '../support/errors.ts';
import { readHexVector } from '../support/vectors.ts';

setDefaultTimeout(60_000);

const HEADER_BYTES = 44;
const PROCESSOR_BYTES = 20;
const BUS_BYTES = 8;

function idsUpTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function tablesFor(cpus: number, timer: 'extInt' | 'int' = 'extInt'): MpTables {
  return buildMpTables({ apicIds: idsUpTo(cpus), timer });
}

/** Both structures as they lie in memory when the table follows its pointer. */
function contiguous({ floatingPointer, configTable }: MpTables): Uint8Array {
  return Uint8Array.of(...floatingPointer.bytes, ...configTable.bytes);
}

function entryCount({ configTable }: MpTables): number {
  return viewOf(configTable.bytes).getUint16(34, true);
}

function baseLength({ configTable }: MpTables): number {
  return viewOf(configTable.bytes).getUint16(4, true);
}

describe("the seed's tests", () => {
  // test_checksum is in binary/checksum.test.ts.

  test('test_mp_floating_pointer_signature: _MP_ at 0x9FC00', () => {
    const { floatingPointer } = tablesFor(1);
    expect(floatingPointer.address as number).toBe(0x9_fc00);
    expect(Buffer.from(floatingPointer.bytes).toString('latin1', 0, 4)).toBe('_MP_');
  });

  test('test_mp_floating_pointer_checksum: its 16 bytes add up to 0', () => {
    const { floatingPointer } = tablesFor(2);
    expect(floatingPointer.bytes.length).toBe(16);
    expect(byteSum(floatingPointer.bytes)).toBe(0);
  });

  test('test_mp_config_table_checksum: as many bytes as the header says add up to 0', () => {
    const tables = tablesFor(2);
    expect(byteSum(tables.configTable.bytes.subarray(0, baseLength(tables)))).toBe(0);
  });

  test('test_mp_config_table_signature: PCMP at 0x9FC10', () => {
    const { configTable } = tablesFor(1);
    expect(configTable.address as number).toBe(0x9_fc10);
    expect(Buffer.from(configTable.bytes).toString('latin1', 0, 4)).toBe('PCMP');
  });

  test('test_mp_table_1_cpu: 19 entries', () => {
    expect(entryCount(tablesFor(1))).toBe(1 + 1 + 1 + 16);
  });

  test('test_mp_table_4_cpus: 22 entries', () => {
    expect(entryCount(tablesFor(4))).toBe(4 + 1 + 1 + 16);
  });

  test('test_mp_table_bsp_flag: the first CPU is enabled and BSP, the second enabled only', () => {
    const { bytes } = tablesFor(4).configTable;
    const [first, second] = [HEADER_BYTES, HEADER_BYTES + PROCESSOR_BYTES];
    expect([...bytes.subarray(first, first + 4)]).toEqual([0, 0, 0x14, 0x03]);
    expect([...bytes.subarray(second, second + 4)]).toEqual([0, 1, 0x14, 0x01]);
  });

  test('test_mp_table_ioapic: its id is the number of CPUs, it is enabled and at 0xFEC00000', () => {
    const { bytes } = tablesFor(2).configTable;
    const at = HEADER_BYTES + 2 * PROCESSOR_BYTES + BUS_BYTES;
    expect([...bytes.subarray(at, at + 4)]).toEqual([2, 2, 0x11, 0x01]);
    expect(viewOf(bytes).getUint32(at + 4, true)).toBe(0xfec0_0000);
  });

  test('test_mp_table_zero_cpus_error: 0 CPUs are refused', () => {
    expect(voltErrorOf(() => tablesFor(0))).toEqual({
      code: 'usage',
      message: 'Cannot build MP tables for 0 CPUs (expected at least 1)',
    });
  });

  test('test_mp_table_local_apic_addr: 0xFEE00000', () => {
    expect(viewOf(tablesFor(2).configTable.bytes).getUint32(36, true)).toBe(0xfee0_0000);
  });
});

describe('golden bytes', () => {
  test.each([
    [1, '1-cpu'],
    [2, '2-cpus'],
    [4, '4-cpus'],
  ])('for %p CPUs are those derived from the specification', (cpus, vector) => {
    expect(contiguous(tablesFor(cpus))).toEqual(readHexVector(`mp-table/${vector}.hex`));
  });

  test.each([
    [1, 224, 208],
    [2, 244, 228],
    [4, 284, 268],
  ])('for %p CPUs are %p in all, of which the base table has %p', (cpus, all, base) => {
    const tables = tablesFor(cpus);
    expect(contiguous(tables).length).toBe(all);
    expect(baseLength(tables)).toBe(base);
    expect(tables.configTable.bytes.length).toBe(base);
  });
});

describe('the timer interrupt', () => {
  test("is ExtINT as in the seed, or INT where the guest needs the PIT, and that is the tables' only difference", () => {
    const extInt = tablesFor(2, 'extInt').configTable.bytes;
    const int = tablesFor(2, 'int').configTable.bytes;
    const timerEntry = HEADER_BYTES + 2 * PROCESSOR_BYTES + BUS_BYTES + BUS_BYTES;
    const different = idsUpTo(int.length).filter((i) => int[i] !== extInt[i]);
    expect([...extInt.subarray(timerEntry, timerEntry + 8)]).toEqual([3, 3, 0, 0, 0, 0, 2, 0]);
    expect([...int.subarray(timerEntry, timerEntry + 8)]).toEqual([3, 0, 0, 0, 0, 0, 2, 0]);
    expect(different).toEqual([7, timerEntry + 1]);
  });

  test('is the only one that changes: IRQs 1 to 15 are INT in both', () => {
    const kinds = (['extInt', 'int'] as const).map((timer) =>
      readConfigTable(tablesFor(2, timer).configTable.bytes).value!.entries.flatMap((entry) =>
        entry.type === 'io-interrupt' && entry.sourceIrq > 0 ? [entry.kind] : [],
      ),
    );
    expect(kinds).toEqual([Array(15).fill('INT'), Array(15).fill('INT')]);
  });
});

describe('many CPUs', () => {
  test('41 fit behind the floating pointer, to the last byte of the EBDA', () => {
    const { configTable } = tablesFor(41);
    expect(configTable.address as number).toBe(0x9_fc10);
    expect(configTable.address + configTable.bytes.length).toBe(EBDA_END);
  });

  test('42 go to the BIOS area, and the floating pointer stays and points there', () => {
    const { floatingPointer, configTable } = tablesFor(42);
    expect(floatingPointer.address as number).toBe(0x9_fc00);
    expect(configTable.address as number).toBe(0xf_0000);
    expect(readFloatingPointer(floatingPointer.bytes).value!.configTable).toBe(0xf_0000);
  });

  test('254 fit into the BIOS area, with I/O APIC id 254', () => {
    const { configTable } = tablesFor(254);
    const ioApics = readConfigTable(configTable.bytes).value!.entries.filter((e) => e.type === 'io-apic');
    expect(configTable.bytes.length).toBe(208 + 20 * 253);
    expect(configTable.bytes.length).toBeLessThanOrEqual(LAYOUT.biosArea.bytes);
    expect(ioApics).toEqual([
      { type: 'io-apic', id: 254, version: 0x11, enabled: true, address: 0xfec0_0000 },
    ]);
  });

  test('255 are refused in words', () => {
    expect(voltErrorOf(() => tablesFor(255))).toEqual({
      code: 'usage',
      message:
        'Cannot build MP tables for 255 CPUs with APIC ids up to 254 (expected at most 254 CPUs with ids below 254, because MP tables have 8-bit ids)',
    });
    expect(MP_TABLE_MAX_CPUS).toBe(254);
  });

  test('every number of CPUs from 1 to 254 reads back as it was meant, without a problem', () => {
    for (const cpus of idsUpTo(254).map((i) => i + 1)) {
      const { floatingPointer, configTable } = tablesFor(cpus);
      const pointer = readFloatingPointer(floatingPointer.bytes);
      const table = readConfigTable(configTable.bytes);
      const processors = table.value!.entries.filter((entry) => entry.type === 'processor');

      expect([...pointer.problems, ...table.problems]).toEqual([]);
      expect(pointer.value).toEqual({
        configTable: configTable.address,
        revision: 4,
        feature1: 0,
        imcr: true,
      });
      expect(processors.map((cpu) => cpu.apicId)).toEqual(idsUpTo(cpus));
      expect(processors.map((cpu) => cpu.bootstrap)).toEqual(idsUpTo(cpus).map((i) => i === 0));
      expect(processors.every((cpu) => cpu.enabled)).toBe(true);
    }
  });

  test('the table reads back with the names of the seed', () => {
    const { value } = readConfigTable(tablesFor(1).configTable.bytes);
    expect(value).toMatchObject({
      revision: 4,
      oemId: 'NOVAFLAR',
      productId: 'VOLT VM',
      localApicAddress: 0xfee0_0000,
      bytes: 208,
    });
  });
});

describe('APIC ids with gaps', () => {
  test('are listed as they are, and the I/O APIC gets the first id after the highest', () => {
    const { configTable } = buildMpTables({ apicIds: [0, 1, 2, 4, 5, 6], timer: 'extInt' });
    const { value, problems } = readConfigTable(configTable.bytes);
    const ids = value!.entries.flatMap((entry) => (entry.type === 'processor' ? [entry.apicId] : []));
    const destinations = value!.entries.flatMap((entry) =>
      entry.type === 'io-interrupt' ? [entry.destinationApic] : [],
    );
    expect(problems).toEqual([]);
    expect(ids).toEqual([0, 1, 2, 4, 5, 6]);
    expect(new Set(destinations)).toEqual(new Set([7]));
  });

  test('are refused when the I/O APIC would get the broadcast id', () => {
    const { message } = voltErrorOf(() => buildMpTables({ apicIds: [0, 254], timer: 'int' }));
    expect(message).toStartWith('Cannot build MP tables for 2 CPUs with APIC ids up to 254 (expected');
  });

  test('253 is the highest that works', () => {
    const { configTable } = buildMpTables({ apicIds: [0, 253], timer: 'int' });
    expect(readConfigTable(configTable.bytes).problems).toEqual([]);
  });
});
