import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { checksumByte } from '../../../src/binary/checksum.ts';
import { findFloatingPointer, readConfigTable, readFloatingPointer } from '../../../src/smp/mp-table-read.ts';
import { mutate, seededRandom } from '../support/random.ts';
import { readHexVector } from '../support/vectors.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const POINTER_BYTES = 16;
const GOLDEN = readHexVector('mp-table/2-cpus.hex');
const POINTER = GOLDEN.subarray(0, POINTER_BYTES);
const TABLE = GOLDEN.subarray(POINTER_BYTES);

/** Offsets in the table of 2 CPUs. */
const AT = {
  baseLength: 4,
  checksum: 7,
  entryCount: 34,
  firstCpu: 44,
  secondCpu: 64,
  bus: 84,
  ioApic: 92,
  firstInterrupt: 100,
} as const;

/** The golden table with bytes replaced, and the checksum made right again. */
function tableWith(changes: Readonly<Record<number, number>>): Uint8Array {
  const table = TABLE.slice();
  for (const [offset, value] of Object.entries(changes)) table[Number(offset)] = value;
  table[AT.checksum] = 0;
  table[AT.checksum] = checksumByte(table);
  return table;
}

function problemsOf(changes: Readonly<Record<number, number>>): readonly string[] {
  return readConfigTable(tableWith(changes)).problems;
}

describe('a floating pointer', () => {
  test('that is right has no problem', () => {
    expect(readFloatingPointer(POINTER)).toEqual({
      value: { configTable: 0x9_fc10, revision: 4, feature1: 0, imcr: true },
      problems: [],
    });
  });

  test('without its signature is none', () => {
    const missing = { value: undefined, problems: ['MP floating pointer: the signature _MP_ is missing'] };
    expect(readFloatingPointer(new Uint8Array(16))).toEqual(missing);
    expect(readFloatingPointer(POINTER.subarray(0, 15))).toEqual(missing);
  });

  test('with a flipped bit adds up wrong', () => {
    const bytes = POINTER.slice();
    bytes[12] = 0x81;
    expect(readFloatingPointer(bytes).problems).toEqual([
      'MP floating pointer: the bytes sum to 1 (expected 0)',
    ]);
  });

  test('with another length is told so', () => {
    const bytes = POINTER.slice();
    bytes[8] = 2;
    expect(readFloatingPointer(bytes).problems[0]).toBe(
      'MP floating pointer: the length is 32 (expected 16)',
    );
  });
});

describe('a configuration table', () => {
  test('that is right has no problem, whatever follows it', () => {
    const followed = Uint8Array.of(...TABLE, 1, 2, 3);
    expect(readConfigTable(followed).problems).toEqual([]);
  });

  test('without its signature is none', () => {
    const problems = ['MP configuration table: the signature PCMP is missing'];
    expect(readConfigTable(TABLE.subarray(1)).problems).toEqual(problems);
    expect(readConfigTable(TABLE.subarray(0, 43)).problems).toEqual(problems);
  });

  test('that is truncated is told by its length', () => {
    const { value, problems } = readConfigTable(TABLE.subarray(0, 100));
    expect(value).toBeUndefined();
    expect(problems).toEqual(['MP configuration table: the length is 228 (expected 44 to 100)']);
  });

  test('with a length shorter than its header is told so', () => {
    expect(problemsOf({ [AT.baseLength]: 43 })).toEqual([
      'MP configuration table: the length is 43 (expected 44 to 228)',
    ]);
  });

  test('with a wrong checksum is told so', () => {
    const table = TABLE.slice();
    table[AT.checksum] = (table[AT.checksum]! + 5) & 0xff;
    expect(readConfigTable(table).problems).toEqual([
      'MP configuration table: the bytes sum to 5 (expected 0)',
    ]);
  });

  test('with a wrong entry count is told so', () => {
    expect(problemsOf({ [AT.entryCount]: 21 })).toEqual([
      'MP configuration table: the entry count is 21 (expected 20, the entries found)',
    ]);
  });

  test('with an entry of an unknown type is read up to there', () => {
    const { value, problems } = readConfigTable(tableWith({ [AT.ioApic]: 9 }));
    expect(problems).toContain(
      'MP configuration table: the entry at offset 0x5c has type 9, or is truncated (expected type 0 to 4)',
    );
    expect(value!.entries.map((entry) => entry.type)).toEqual(['processor', 'processor', 'bus']);
  });

  test('that ends inside an entry is told so', () => {
    const table = tableWith({ [AT.baseLength]: 224 });
    expect(readConfigTable(table).problems).toContain(
      'MP configuration table: the entry at offset 0xdc has type 3, or is truncated (expected type 0 to 4)',
    );
  });

  test('with one APIC id for two CPUs is told so', () => {
    expect(problemsOf({ [AT.secondCpu + 1]: 0 })).toEqual([
      'MP configuration table: APIC id 0 is used twice',
    ]);
  });

  test('with a CPU that has the id of the I/O APIC is told so', () => {
    expect(problemsOf({ [AT.secondCpu + 1]: 2 })).toEqual([
      'MP configuration table: APIC id 2 is used twice',
    ]);
  });

  test('with the broadcast id is told so', () => {
    expect(problemsOf({ [AT.secondCpu + 1]: 0xff })).toEqual([
      'MP configuration table: an APIC id is 255, the broadcast id',
    ]);
  });

  test('without a BSP, or with two, is told so', () => {
    expect(problemsOf({ [AT.firstCpu + 3]: 1 })).toEqual([
      'MP configuration table: 0 processors have the BSP flag (expected 1)',
    ]);
    expect(problemsOf({ [AT.secondCpu + 3]: 3 })).toEqual([
      'MP configuration table: 2 processors have the BSP flag (expected 1)',
    ]);
  });

  test('with an interrupt from a bus that is not listed is told so', () => {
    expect(problemsOf({ [AT.firstInterrupt + 4]: 7 })).toEqual([
      'MP configuration table: the source of IRQ 0 is bus 7, which has no entry',
    ]);
  });

  test('whose interrupts go to an I/O APIC that is not listed is told so for each', () => {
    const problems = problemsOf({ [AT.ioApic + 1]: 9 });
    expect(problems.length).toBe(16);
    expect(problems[15]).toBe(
      'MP configuration table: the destination of IRQ 15 is I/O APIC 2, which has no entry',
    );
  });

  test('with an interrupt of an unknown kind is told so', () => {
    expect(problemsOf({ [AT.firstInterrupt + 1]: 7 })).not.toEqual([]);
  });
});

describe('in a memory dump', () => {
  test('the floating pointer is found on a 16-byte boundary', () => {
    const dump = new Uint8Array(1024);
    dump.set(POINTER, 0x230);
    expect(findFloatingPointer(dump)).toBe(0x230);
  });

  test('one that is not aligned, or adds up wrong, is passed over', () => {
    const dump = new Uint8Array(1024);
    dump.set(POINTER, 0x104);
    dump.set(POINTER, 0x200);
    dump[0x20c] = 0;
    dump.set(POINTER, 0x3f0);
    expect(findFloatingPointer(dump)).toBe(0x3f0);
  });

  test('without one the answer is -1', () => {
    expect(findFloatingPointer(new Uint8Array(1000))).toBe(-1);
    expect(findFloatingPointer(POINTER.subarray(0, 15))).toBe(-1);
  });
});

describe('no bytes make the readers throw', () => {
  test('neither random ones behind a good signature', () => {
    const random = seededRandom(3);
    for (let i = 0; i < 5000; i++) {
      const bytes = random.bytes(random.int(0, 300));
      bytes.set(TABLE.subarray(0, random.int(0, Math.min(8, bytes.length))));
      readConfigTable(bytes);
      readFloatingPointer(bytes);
      findFloatingPointer(bytes);
    }
  });

  test('nor mutations of good tables, and a value never comes with entries beyond its bytes', () => {
    const random = seededRandom(4);
    for (let i = 0; i < 10_000; i++) {
      const mutated = mutate(random, TABLE);
      const { value } = readConfigTable(mutated);
      expect(value?.bytes ?? 0).toBeLessThanOrEqual(mutated.length);
      readFloatingPointer(mutate(random, POINTER));
    }
  });
});
