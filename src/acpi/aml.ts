/**
 * An encoder for the ACPI Machine Language: each function returns the bytes of one term. (ACPI 6.5 §20.2)
 *
 * Names are written as in ASL, `\_SB.CPUS.C000` or `^PWRB`, and padded here; a number where a term is expected is
 * an integer constant in its shortest encoding. The result of an operator is its value and goes to `target` as well,
 * if there is one.
 */
import { viewOf } from '../binary/bytes.ts';

export type Aml = Uint8Array;
/** A term, or a whole number from 0 to 2^53 - 1. */
export type Term = Aml | number;

/** §20.2, opcodes in the order of table 20.3. */
const OP = {
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
  root: 0x5c,
  parent: 0x5e,
  local0: 0x60,
  arg0: 0x68,
  store: 0x70,
  add: 0x72,
  subtract: 0x74,
  increment: 0x75,
  shiftLeft: 0x79,
  shiftRight: 0x7a,
  and: 0x7b,
  or: 0x7d,
  notify: 0x86,
  index: 0x88,
  createDwordField: 0x8a,
  logicalAnd: 0x90,
  logicalOr: 0x91,
  logicalNot: 0x92,
  equal: 0x93,
  greater: 0x94,
  less: 0x95,
  if: 0xa0,
  else: 0xa1,
  while: 0xa2,
  return: 0xa4,
  break: 0xa5,
  ones: 0xff,
} as const;
/** What follows `OP.extended`. */
const EXTENDED_OP = {
  mutex: 0x01,
  acquire: 0x23,
  release: 0x27,
  operationRegion: 0x80,
  field: 0x81,
  device: 0x82,
} as const;

/** §20.2.3 */
const NULL_TARGET = Uint8Array.of(0x00);
const NAME_SEGMENT_BYTES = 4;

/** §19.6.100, OperationRegion; §20.2.5.2 */
export const REGION_SPACE = { systemMemory: 0, systemIo: 1 } as const;
/** §20.2.5.2, FieldFlags */
export const FIELD_ACCESS = { any: 0, byte: 1, word: 2, dword: 3 } as const;
export const FIELD_UPDATE = { preserve: 0, writeAsOnes: 1, writeAsZeros: 2 } as const;
/** Acquire's timeout: for ever. */
export const FOREVER = 0xffff;

export function concat(...parts: readonly Aml[]): Aml {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Shortest encoding: Zero, One, or a byte, word, double word or quad word behind its prefix. (§20.2.3) */
export function integer(value: number): Aml {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`Cannot encode ${value} in AML (expected a whole number from 0 to 2^53 - 1)`);
  }
  if (value === 0) return Uint8Array.of(OP.zero);
  if (value === 1) return Uint8Array.of(OP.one);
  if (value <= 0xff) return littleEndian(OP.bytePrefix, value, 1);
  if (value <= 0xffff) return littleEndian(OP.wordPrefix, value, 2);
  if (value <= 0xffff_ffff) return littleEndian(OP.dwordPrefix, value, 4);
  return littleEndian(OP.qwordPrefix, value, 8);
}

function littleEndian(prefix: number, value: number, bytes: number): Aml {
  const encoded = new Uint8Array(1 + bytes);
  encoded[0] = prefix;
  for (let i = 1, rest = value; i <= bytes; i++, rest = Math.floor(rest / 256)) encoded[i] = rest % 256;
  return encoded;
}

/** All 64 bits set, in a definition block of revision 2. */
export function ones(): Aml {
  return Uint8Array.of(OP.ones);
}

/** ASCII with its final NUL. (§20.2.3) */
export function string(text: string): Aml {
  if (/[^\x01-\x7f]/.test(text)) {
    throw new RangeError(`Cannot encode ${JSON.stringify(text)} in AML (expected ASCII without NUL)`);
  }
  return concat(Uint8Array.of(OP.stringPrefix), new TextEncoder().encode(text), Uint8Array.of(0));
}

/** A compressed EISA id such as `PNP0501`: three letters of 5 bits, four hexadecimal digits. (§19.6.37) */
export function eisaId(id: string): Aml {
  if (!/^[A-Z]{3}[0-9A-F]{4}$/.test(id)) {
    throw new RangeError(
      `Cannot compress ${id} (expected three capital letters and four hexadecimal digits)`,
    );
  }
  const letter = (at: number) => id.charCodeAt(at) - 0x40;
  const bits = (letter(0) << 26) | (letter(1) << 21) | (letter(2) << 16) | parseInt(id.slice(3), 16);
  const encoded = Uint8Array.of(OP.dwordPrefix, 0, 0, 0, 0);
  viewOf(encoded).setUint32(1, bits >>> 0, false);
  return encoded;
}

/** Any NameString: `\A.B`, `^^A`, `A.B.C`, `A`. (§20.2.2) */
export function path(name: string): Aml {
  const match = /^(\\?|\^*)((?:[A-Z_][A-Z0-9_]{0,3}\.)*(?:[A-Z_][A-Z0-9_]{0,3}))?$/.exec(name);
  if (!match || name === '')
    throw new RangeError(`Cannot encode ${JSON.stringify(name)} (expected an ACPI name)`);
  const prefix = [...match[1]!].map((mark) => (mark === '\\' ? OP.root : OP.parent));
  const segments = match[2]?.split('.') ?? [];
  const counted =
    segments.length > 2
      ? [OP.multiNamePrefix, segments.length]
      : ([[0x00], [], [OP.dualNamePrefix]] as const)[segments.length]!;
  const text = segments.map((segment) => segment.padEnd(NAME_SEGMENT_BYTES, '_')).join('');
  return concat(Uint8Array.of(...prefix, ...counted), new TextEncoder().encode(text));
}

function term(value: Term): Aml {
  return typeof value === 'number' ? integer(value) : value;
}

/** PkgLength (§20.2.4): of `contentBytes` and itself, or, for the bits of a field, of nothing but the number. */
function encodeLength(value: number): Aml {
  if (value < 0x40) return Uint8Array.of(value);
  const extra = value < 0x1000 ? 1 : value < 0x10_0000 ? 2 : 3;
  const encoded = new Uint8Array(1 + extra);
  encoded[0] = (extra << 6) | (value & 0x0f);
  for (let i = 1; i <= extra; i++) encoded[i] = value >>> (4 + 8 * (i - 1));
  return encoded;
}

function packageLength(contentBytes: number): Aml {
  const bytes =
    contentBytes + 1 < 0x40 ? 1 : contentBytes + 2 < 0x1000 ? 2 : contentBytes + 3 < 0x10_0000 ? 3 : 4;
  if (contentBytes + bytes >= 0x1000_0000) {
    throw new RangeError(`Cannot encode an AML package of ${contentBytes} bytes (expected less than 2^28)`);
  }
  return encodeLength(contentBytes + bytes);
}

function packaged(opcode: readonly number[], ...parts: readonly Aml[]): Aml {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return concat(Uint8Array.from(opcode), packageLength(bytes), ...parts);
}

function operation(opcode: number, ...operands: readonly Term[]): Aml {
  return concat(Uint8Array.of(opcode), ...operands.map(term));
}

// Named objects (§20.2.5)

export function nameObject(name: string, value: Term): Aml {
  return operation(OP.name, path(name), value);
}

export function buffer(bytes: Uint8Array): Aml {
  return packaged([OP.buffer], integer(bytes.length), bytes);
}

/** At most 255 elements. */
export function packageObject(...elements: readonly Term[]): Aml {
  if (elements.length > 0xff) {
    throw new RangeError(`Cannot encode a package of ${elements.length} elements (expected at most 255)`);
  }
  return packaged([OP.package], Uint8Array.of(elements.length), ...elements.map(term));
}

export function scope(name: string, ...body: readonly Aml[]): Aml {
  return packaged([OP.scope], path(name), ...body);
}

export function device(name: string, ...body: readonly Aml[]): Aml {
  return packaged([OP.extended, EXTENDED_OP.device], path(name), ...body);
}

/** `options.serialized` keeps a second thread out, which a method that creates names needs. */
export function method(
  name: string,
  options: { readonly args?: number; readonly serialized?: boolean },
  ...body: readonly Aml[]
): Aml {
  const flags = (options.args ?? 0) | (options.serialized ? 1 << 3 : 0);
  return packaged([OP.method], path(name), Uint8Array.of(flags), ...body);
}

export function mutex(name: string, syncLevel = 0): Aml {
  return concat(Uint8Array.of(OP.extended, EXTENDED_OP.mutex), path(name), Uint8Array.of(syncLevel));
}

export function operationRegion(name: string, space: number, offset: Term, bytes: Term): Aml {
  return concat(
    Uint8Array.of(OP.extended, EXTENDED_OP.operationRegion),
    path(name),
    Uint8Array.of(space),
    term(offset),
    term(bytes),
  );
}

/** Bits of a region one after the other; those without a name are skipped. */
export function field(
  region: string,
  options: { readonly access: number; readonly update: number },
  ...units: readonly { readonly name?: string; readonly bits: number }[]
): Aml {
  const encoded = units.map(({ name, bits }) =>
    concat(name === undefined ? Uint8Array.of(0x00) : path(name), encodeLength(bits)),
  );
  const flags = Uint8Array.of(options.access | (options.update << 5));
  return packaged([OP.extended, EXTENDED_OP.field], path(region), flags, ...encoded);
}

/** A name for four bytes of a buffer, from `offset`. */
export function createDwordField(source: Aml, offset: Term, name: string): Aml {
  return operation(OP.createDwordField, source, offset, path(name));
}

// Statements (§20.2.5.3)

export function store(value: Term, target: Aml): Aml {
  return operation(OP.store, value, target);
}

export function increment(target: Aml): Aml {
  return operation(OP.increment, target);
}

export function ifThen(condition: Term, ...body: readonly Aml[]): Aml {
  return packaged([OP.if], term(condition), ...body);
}

/** Goes right behind an `ifThen`. */
export function otherwise(...body: readonly Aml[]): Aml {
  return packaged([OP.else], ...body);
}

export function whileLoop(condition: Term, ...body: readonly Aml[]): Aml {
  return packaged([OP.while], term(condition), ...body);
}

export function breakLoop(): Aml {
  return Uint8Array.of(OP.break);
}

export function returnValue(value: Term): Aml {
  return operation(OP.return, value);
}

export function notify(target: Aml, value: Term): Aml {
  return operation(OP.notify, target, value);
}

/** Waits `timeoutMs` milliseconds, or FOREVER. */
export function acquire(name: string, timeoutMs: number): Aml {
  const timeout = Uint8Array.of(timeoutMs & 0xff, timeoutMs >>> 8);
  return concat(Uint8Array.of(OP.extended, EXTENDED_OP.acquire), path(name), timeout);
}

export function release(name: string): Aml {
  return concat(Uint8Array.of(OP.extended, EXTENDED_OP.release), path(name));
}

// Expressions (§20.2.5.4)

export function local(index: number): Aml {
  return Uint8Array.of(OP.local0 + index);
}

export function argument(index: number): Aml {
  return Uint8Array.of(OP.arg0 + index);
}

export function call(name: string, ...operands: readonly Term[]): Aml {
  return concat(path(name), ...operands.map(term));
}

export function index(source: Aml, at: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.index, source, at, target);
}

export function add(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.add, left, right, target);
}

export function subtract(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.subtract, left, right, target);
}

export function shiftLeft(value: Term, bits: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.shiftLeft, value, bits, target);
}

export function shiftRight(value: Term, bits: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.shiftRight, value, bits, target);
}

export function bitAnd(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.and, left, right, target);
}

export function bitOr(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.or, left, right, target);
}

export function both(left: Term, right: Term): Aml {
  return operation(OP.logicalAnd, left, right);
}

export function either(left: Term, right: Term): Aml {
  return operation(OP.logicalOr, left, right);
}

export function not(value: Term): Aml {
  return operation(OP.logicalNot, value);
}

export function equal(left: Term, right: Term): Aml {
  return operation(OP.equal, left, right);
}

export function notEqual(left: Term, right: Term): Aml {
  return not(equal(left, right));
}

export function greater(left: Term, right: Term): Aml {
  return operation(OP.greater, left, right);
}

export function less(left: Term, right: Term): Aml {
  return operation(OP.less, left, right);
}
