/**
 * Encoding of the ACPI Machine Language (AML): opcodes, constants, names and lengths. (ACPI 6.5 §20.2)
 *
 * Encoded terms are plain arrays, because a DSDT is concatenated from thousands of short pieces. In a process
 * that has just started, the tables of 1000 CPUs take 17 ms, and took 24 ms with Uint8Arrays; those of 2 CPUs
 * take 1.5 ms.
 */
/** Encoded AML, one byte an element. */
export type Aml = readonly number[];
/** An operand: encoded AML, or an integer from 0 to 2^53 - 1, which is encoded as a constant. */
export type Term = Aml | number;

/** §20.3, table 20.3, by code */
export const OP = {
  zero: 0x00,
  one: 0x01,
  name: 0x08,
  bytePrefix: 0x0a,
  wordPrefix: 0x0b,
  dwordPrefix: 0x0c,
  stringPrefix: 0x0d,
  qwordPrefix: 0x0e,
  scope: 0x10,
  buffer: 0x11,
  package: 0x12,
  method: 0x14,
  dualNamePrefix: 0x2e,
  multiNamePrefix: 0x2f,
  extended: 0x5b,
  local0: 0x60,
  arg0: 0x68,
  store: 0x70,
  subtract: 0x74,
  and: 0x7b,
  or: 0x7d,
  notify: 0x86,
  index: 0x88,
  createDwordField: 0x8a,
  logicalNot: 0x92,
  equal: 0x93,
  less: 0x95,
  if: 0xa0,
  else: 0xa1,
  while: 0xa2,
  return: 0xa4,
} as const;
/** The second byte, after `OP.extended`. */
export const EXTENDED_OP = {
  mutex: 0x01,
  acquire: 0x23,
  release: 0x27,
  operationRegion: 0x80,
  field: 0x81,
  device: 0x82,
} as const;

const NAME_SEGMENT_BYTES = 4;
const UNDERSCORE = 0x5f;

export function concat(...parts: readonly Aml[]): Aml {
  return ([] as number[]).concat(...parts);
}

/** `value` as `bytes` bytes, least significant first. */
export function littleEndian(value: number, bytes: number): Aml {
  const encoded: number[] = [];
  for (let i = 0, rest = value; i < bytes; i++, rest = Math.floor(rest / 256)) encoded.push(rest % 256);
  return encoded;
}

/** The shortest encoding: Zero, One, or a byte, word, dword or qword after its prefix. (§20.2.3) */
export function integer(value: number): Aml {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`Cannot encode ${value} in AML (expected an integer from 0 to 2^53 - 1)`);
  }
  if (value === 0) return [OP.zero];
  if (value === 1) return [OP.one];
  if (value <= 0xff) return [OP.bytePrefix, value];
  if (value <= 0xffff) return [OP.wordPrefix, ...littleEndian(value, 2)];
  if (value <= 0xffff_ffff) return [OP.dwordPrefix, ...littleEndian(value, 4)];
  return [OP.qwordPrefix, ...littleEndian(value, 8)];
}

/** A NUL-terminated ASCII string. (§20.2.3) */
export function string(text: string): Aml {
  const codes = codesOf(text);
  if (codes.some((code) => code === 0 || code > 0x7f)) {
    throw new RangeError(`Cannot encode ${JSON.stringify(text)} in AML (expected ASCII without NUL)`);
  }
  return [OP.stringPrefix, ...codes, 0];
}

function codesOf(text: string): number[] {
  const codes: number[] = [];
  for (let i = 0; i < text.length; i++) codes.push(text.charCodeAt(i));
  return codes;
}

/** A compressed EISA id such as `PNP0501`: three letters of 5 bits and four hexadecimal digits. (§19.6.37) */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) {
    throw new RangeError(
      `Cannot encode the EISA id ${id} (expected three capital letters and four hexadecimal digits)`,
    );
  }
  const [first, second, third] = codesOf(id).map((code) => code - 0x40) as [number, number, number];
  const letters = (first << 10) | (second << 5) | third;
  const digits = parseInt(id.slice(3), 16);
  return [OP.dwordPrefix, letters >>> 8, letters & 0xff, digits >>> 8, digits & 0xff];
}

/** A NameString as in ASL: `\A.B`, `^^A`, `A.B.C`, `A`. Segments are padded with underscores. (§20.2.2) */
export function nameString(name: string): Aml {
  if (!/^(?=.)(?:\\|\^*)(?:[A-Z_][A-Z0-9_]{0,3}(?:\.(?!$)|$))*$/.test(name)) {
    throw new RangeError(`Cannot encode ${JSON.stringify(name)} in AML (expected an ACPI name)`);
  }
  const prefixBytes = name.lastIndexOf('^') + 1 || (name.startsWith('\\') ? 1 : 0);
  // RootChar and ParentPrefixChar are encoded as the characters `\` and `^`.
  const encoded = codesOf(name.slice(0, prefixBytes));
  const segments = name.length === prefixBytes ? [] : name.slice(prefixBytes).split('.');
  if (segments.length === 0) encoded.push(0x00);
  if (segments.length === 2) encoded.push(OP.dualNamePrefix);
  if (segments.length > 2) encoded.push(OP.multiNamePrefix, segments.length);
  for (const segment of segments) {
    encoded.push(...codesOf(segment));
    for (let i = segment.length; i < NAME_SEGMENT_BYTES; i++) encoded.push(UNDERSCORE);
  }
  return encoded;
}

/** An operand, encoded. */
export function term(value: Term): Aml {
  return typeof value === 'number' ? integer(value) : value;
}

/** The encoding of PkgLength, which FieldList also uses for a number of bits. (§20.2.4, §20.2.5.2) */
export function encodeLength(value: number): Aml {
  if (value < 0x40) return [value];
  const more = value < 0x1000 ? 1 : value < 0x10_0000 ? 2 : 3;
  return [(more << 6) | (value & 0x0f), ...littleEndian(value >>> 4, more)];
}

/** PkgLength of `contentBytes` bytes: it includes its own bytes. */
function packageLength(contentBytes: number): Aml {
  const bytes = contentBytes < 0x3f ? 1 : contentBytes < 0xffe ? 2 : contentBytes < 0xf_fffd ? 3 : 4;
  if (contentBytes + bytes >= 0x1000_0000) {
    throw new RangeError(`Cannot encode an AML package of ${contentBytes} bytes (expected less than 2^28)`);
  }
  return encodeLength(contentBytes + bytes);
}

/** An opcode, the PkgLength, and its contents. */
export function packaged(opcode: Aml, ...parts: readonly Aml[]): Aml {
  const content = concat(...parts);
  return concat(opcode, packageLength(content.length), content);
}

/** An opcode and its operands. */
export function operation(opcode: number, ...operands: readonly Term[]): Aml {
  return concat([opcode], ...operands.map(term));
}
