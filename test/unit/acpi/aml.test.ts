import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  acquire,
  argument,
  bitAnd,
  buffer,
  call,
  createDwordField,
  device,
  field,
  FIELD_ACCESS,
  FIELD_UPDATE,
  FOREVER,
  ifBlock,
  index,
  less,
  local,
  method,
  mutex,
  nameObject,
  notEqual,
  notify,
  operationRegion,
  elseBlock,
  packageObject,
  REGION_SPACE,
  release,
  returnValue,
  scope,
  store,
  subtract,
  whileLoop,
} from '../../../src/acpi/aml.ts';
import { concat, eisaId, integer, nameString, string, type Aml } from '../../../src/acpi/aml-encoding.ts';
import { edgeInterrupt, fixedMemory, ioPorts, resourceTemplate } from '../../../src/acpi/aml-resources.ts';
import { acpicaMissing, compileAsl } from './acpica.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const HEADER_BYTES = 36;

function hexOf(bytes: Iterable<number>): string {
  return Buffer.from([...bytes]).toString('hex');
}

/** What stands behind the header of the DSDT that iasl makes of `body`. */
function iaslBody(body: string): Uint8Array {
  const { verdict, aml } = compileAsl(`DefinitionBlock ("", "DSDT", 2, "VOLT", "TEST", 1) { ${body} }`);
  expect(verdict).toStartWith('0 Errors');
  return aml.subarray(HEADER_BYTES);
}

describe("bytes by hand, from the grammar's rules", () => {
  test.each([
    [0, '00'],
    [1, '01'],
    [2, '0a02'],
    [0xff, '0aff'],
    [0x100, '0b0001'],
    [0xffff, '0bffff'],
    [0x1_0000, '0c00000100'],
    [0xffff_ffff, '0cffffffff'],
    [0x1_0000_0000, '0e0000000001000000'],
    [2 ** 53 - 1, '0effffffffffff1f00'],
  ])('the integer %p is %s', (value, expected) => {
    expect(hexOf(integer(value))).toBe(expected);
  });

  test.each([
    ['A', '415f5f5f'],
    ['_HID', '5f484944'],
    ['\\', '5c00'],
    ['\\_SB', '5c5f53425f'],
    ['^^PWRB', '5e5e50575242'],
    ['A.B', '2e415f5f5f425f5f5f'],
    ['\\_SB.CPUS.C000', '5c2f035f53425f4350555343303030'],
  ])('the name %s is %s', (name, expected) => {
    expect(hexOf(nameString(name))).toBe(expected);
  });

  test.each([
    ['PNP0501', '0c41d00501'],
    ['PNP0C0C', '0c41d00c0c'],
    ['ABC0000', '0c04430000'],
  ])('the EISA id %s is %s', (id, expected) => {
    expect(hexOf(eisaId(id))).toBe(expected);
  });

  test.each([
    [60, '3f', 'the most for one byte'],
    [61, '4104', 'two bytes, four bits in the first'],
    [4091, '4fff', 'the most for two'],
    [4092, '810001', 'three'],
    [0xf_fffa, '8fffff', 'the most for three'],
    [0xf_fffb, 'c1000001', 'four'],
  ])('a scope of the root with %p bytes has the length %s: %s', (bytes, expected) => {
    const encoded = scope('\\', Array<number>(bytes).fill(0));
    const lengthBytes = expected.length / 2;
    expect(hexOf(encoded.slice(1, 1 + lengthBytes))).toBe(expected);
    expect(encoded.length).toBe(1 + lengthBytes + 2 + bytes);
  });

  test.each([-1, 1.5, 2 ** 53, NaN])('%p is no integer', (value) => {
    expect(() => integer(value)).toThrow(RangeError);
  });

  test.each(['', 'a', 'ABCDE', '0A', 'A..B', '.A', 'A.', '\\\\A', 'A^'])('%p is no name', (name) => {
    expect(() => nameString(name)).toThrow(RangeError);
  });

  test.each(['', 'PNP050', 'pnp0501', 'PNP050G', 'PN00501'])('%p is no EISA id', (id) => {
    expect(() => eisaId(id)).toThrow(RangeError);
  });

  test('a text beyond ASCII is refused, and so are 256 elements of a package', () => {
    expect(() => string('ä')).toThrow(RangeError);
    expect(() => string('a\0b')).toThrow(RangeError);
    expect(() => packageObject(...Array<number>(256).fill(0))).toThrow(RangeError);
  });
});

const X = nameString('X');

const SAME_AS_IASL: readonly (readonly [string, Aml])[] = [
  ['Name (A, 0)', nameObject('A', 0)],
  ['Name (A, 1)', nameObject('A', 1)],
  ['Name (A, 0xAB)', nameObject('A', 0xab)],
  ['Name (A, 0xABCD)', nameObject('A', 0xabcd)],
  ['Name (A, 0x89ABCDEF)', nameObject('A', 0x89ab_cdef)],
  ['Name (A, 0x000123456789ABCD)', nameObject('A', 0x1_2345_6789_abcd)],
  ['Name (A, "text")', nameObject('A', string('text'))],
  ['Name (A, EisaId ("PNP0A05"))', nameObject('A', eisaId('PNP0A05'))],
  ['Name (A, Buffer () {1, 2, 255})', nameObject('A', buffer(Uint8Array.of(1, 2, 255)))],
  ['Name (A, Package () {5, 0, "b"})', nameObject('A', packageObject(5, 0, string('b')))],
  ['Name (\\_S5, Package () {5})', nameObject('\\_S5', packageObject(5))],
  ['Device (D) { Name (_UID, 2) }', device('D', nameObject('_UID', 2))],
  ['Scope (\\_SB) { Device (D) {} }', scope('\\_SB', device('D'))],
  ['Mutex (M, 3)', mutex('M', 3)],
  ['Method (A, 3) { Return (Arg2) }', method('A', { args: 3 }, returnValue(argument(2)))],
  ['Method (A, 0, Serialized) {}', method('A', { serialized: true })],
  [
    'Mutex (M) Method (A) { Acquire (M, 0xFFFF) Release (M) Acquire (M, 500) }',
    concat(mutex('M'), method('A', {}, acquire('M', FOREVER), release('M'), acquire('M', 500))),
  ],
  [
    'OperationRegion (R, SystemIO, 0x608, 1) Field (R, ByteAcc, NoLock, WriteAsZeros) { F, 8 }',
    concat(
      operationRegion('R', REGION_SPACE.systemIo, 0x608, 1),
      field('R', { access: FIELD_ACCESS.byte, update: FIELD_UPDATE.writeAsZeros }, { name: 'F', bits: 8 }),
    ),
  ],
  [
    'OperationRegion (R, SystemMemory, 0xD0000000, 0x1000) Field (R, DWordAcc, NoLock, Preserve) { F, 1, , 95, G, 32 }',
    concat(
      operationRegion('R', REGION_SPACE.systemMemory, 0xd000_0000, 0x1000),
      field(
        'R',
        { access: FIELD_ACCESS.dword, update: FIELD_UPDATE.preserve },
        { name: 'F', bits: 1 },
        { bits: 95 },
        { name: 'G', bits: 32 },
      ),
    ),
  ],
  [
    'OperationRegion (R, SystemIO, 0, 8) Field (R, WordAcc, NoLock, WriteAsOnes) { F, 16 } Field (R, AnyAcc, NoLock, Preserve) { G, 8 }',
    concat(
      operationRegion('R', REGION_SPACE.systemIo, 0, 8),
      field('R', { access: FIELD_ACCESS.word, update: FIELD_UPDATE.writeAsOnes }, { name: 'F', bits: 16 }),
      field('R', { access: FIELD_ACCESS.any, update: FIELD_UPDATE.preserve }, { name: 'G', bits: 8 }),
    ),
  ],
  [
    'Name (_CRS, ResourceTemplate () { IO (Decode16, 0x3F8, 0x3F8, 1, 8) Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 } })',
    nameObject('_CRS', resourceTemplate(ioPorts(0x3f8, 8), edgeInterrupt(4))),
  ],
  [
    'Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0xD0001000, 0x1000) Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 23 } })',
    nameObject('_CRS', resourceTemplate(fixedMemory(0xd000_1000, 0x1000), edgeInterrupt(23))),
  ],
];

/** Bodies of a method of two arguments, where X is an integer, BUFF a buffer, DEV0 a device, TWO a method. */
const SAME_STATEMENTS: readonly (readonly [string, readonly Aml[]])[] = [
  ['X = 7', [store(7, X)]],
  ['Local0 = Arg1', [store(argument(1), local(0))]],
  ['Local1 = Arg0 - 2', [subtract(argument(0), 2, local(1))]],
  ['Local1 = Arg0 & 0x0F', [bitAnd(argument(0), 0x0f, local(1))]],
  ['Return (2 - (TWO (3, X) & 1))', [returnValue(subtract(2, bitAnd(call('TWO', 3, X), 1)))]],
  [
    'Local0 = BUFF Local0 [2] = Arg0',
    [store(nameString('BUFF'), local(0)), store(argument(0), index(local(0), 2))],
  ],
  ['CreateDWordField (BUFF, 4, FLD)', [createDwordField(nameString('BUFF'), 4, 'FLD')]],
  ['Notify (DEV0, 0x80)', [notify(nameString('DEV0'), 0x80)]],
  [
    'If (Arg0 < 1) { X = 1 } Else { X = 2 }',
    [ifBlock(less(argument(0), 1), store(1, X)), elseBlock(store(2, X))],
  ],
  ['If (Arg0 != 1) { X = 1 }', [ifBlock(notEqual(argument(0), 1), store(1, X))]],
  ['While (X < 3) { X = 5 }', [whileLoop(less(X, 3), store(5, X))]],
];

const DECLARATIONS =
  'Name (X, 0) Name (BUFF, Buffer (8) {}) Device (DEV0) {} Method (TWO, 2) { Return (Arg0) }';

describe.skipIf(acpicaMissing)('the same bytes as iasl (needs iasl)', () => {
  test.each(SAME_AS_IASL)('%s', (asl, aml) => {
    expect(hexOf(aml)).toBe(hexOf(iaslBody(asl)));
  });

  test.each(SAME_STATEMENTS)('in a method: %s', (asl, statements) => {
    const wanted = iaslBody(`${DECLARATIONS} Method (TEST, 2, Serialized) { ${asl} }`);
    const ours = method('TEST', { args: 2, serialized: true }, ...statements);
    expect(hexOf(wanted)).toEndWith(hexOf(ours));
  });

  test.each([62, 63, 64, 4000, 4090, 4096])('a buffer of %p bytes', (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => i % 251);
    expect(hexOf(nameObject('A', buffer(bytes)))).toBe(hexOf(iaslBody(`Name (A, Buffer () {${bytes}})`)));
  });
});
