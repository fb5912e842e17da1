/**
 * The terms of the ACPI Machine Language that Volt's tables use, as functions that return encoded AML. (ACPI
 * 6.5 §20.2.5)
 *
 * Names are written as in ASL, such as `\_SB.CPUS.C000` or `^PWRB`. A number in place of a term is an integer
 * constant. An operator evaluates to its result, and stores it in `target` if there is one.
 */
import {
  concat,
  encodeLength,
  EXTENDED_OP,
  integer,
  littleEndian,
  OP,
  operation,
  packaged,
  nameString,
  term,
  type Aml,
  type Term,
} from './aml-encoding.ts';

const NULL_TARGET: Aml = [0x00];

/** §19.6.100, OperationRegion; §20.2.5.2 */
export const REGION_SPACE = { systemMemory: 0, systemIo: 1 } as const;
/** §20.2.5.2, FieldFlags */
export const FIELD_ACCESS = { any: 0, byte: 1, word: 2, dword: 3 } as const;
export const FIELD_UPDATE = { preserve: 0, writeAsOnes: 1, writeAsZeros: 2 } as const;
/** Timeout of Acquire: wait without limit. */
export const FOREVER = 0xffff;

// Named objects (§20.2.5)

export function nameObject(name: string, value: Term): Aml {
  return operation(OP.name, nameString(name), value);
}

export function buffer(bytes: Aml | Uint8Array): Aml {
  return packaged([OP.buffer], integer(bytes.length), [...bytes]);
}

/** At most 255 elements. */
export function packageObject(...elements: readonly Term[]): Aml {
  if (elements.length > 0xff) {
    throw new RangeError(`Cannot encode a package of ${elements.length} elements (expected at most 255)`);
  }
  return packaged([OP.package], [elements.length], ...elements.map(term));
}

export function scope(name: string, ...body: readonly Aml[]): Aml {
  return packaged([OP.scope], nameString(name), ...body);
}

export function device(name: string, ...body: readonly Aml[]): Aml {
  return packaged([OP.extended, EXTENDED_OP.device], nameString(name), ...body);
}

/** A method that creates names must be `serialized`: only one thread at a time executes it. */
export function method(
  name: string,
  options: { readonly args?: number; readonly serialized?: boolean },
  ...body: readonly Aml[]
): Aml {
  const flags = (options.args ?? 0) | (options.serialized ? 1 << 3 : 0);
  return packaged([OP.method], nameString(name), [flags], ...body);
}

export function mutex(name: string, syncLevel = 0): Aml {
  return concat([OP.extended, EXTENDED_OP.mutex], nameString(name), [syncLevel]);
}

export function operationRegion(name: string, space: number, offset: Term, bytes: Term): Aml {
  return concat(
    [OP.extended, EXTENDED_OP.operationRegion],
    nameString(name),
    [space],
    term(offset),
    term(bytes),
  );
}

/** Consecutive bits of a region; units without a name are reserved bits. */
export function field(
  region: string,
  options: { readonly access: number; readonly update: number },
  ...units: readonly { readonly name?: string; readonly bits: number }[]
): Aml {
  const encoded = units.map(({ name, bits }) =>
    concat(name === undefined ? [0x00] : nameString(name), encodeLength(bits)),
  );
  const flags = [options.access | (options.update << 5)];
  return packaged([OP.extended, EXTENDED_OP.field], nameString(region), flags, ...encoded);
}

/** Names the four bytes of a buffer from `offset`. */
export function createDwordField(source: Aml, offset: Term, name: string): Aml {
  return operation(OP.createDwordField, source, offset, nameString(name));
}

// Statements (§20.2.5.3)

export function store(value: Term, target: Aml): Aml {
  return operation(OP.store, value, target);
}

export function ifBlock(condition: Term, ...body: readonly Aml[]): Aml {
  return packaged([OP.if], term(condition), ...body);
}

/** Must follow an `ifBlock`. */
export function elseBlock(...body: readonly Aml[]): Aml {
  return packaged([OP.else], ...body);
}

export function whileLoop(condition: Term, ...body: readonly Aml[]): Aml {
  return packaged([OP.while], term(condition), ...body);
}

export function returnValue(value: Term): Aml {
  return operation(OP.return, value);
}

export function notify(target: Aml, value: Term): Aml {
  return operation(OP.notify, target, value);
}

/** Waits up to `timeoutMs` milliseconds, or FOREVER. */
export function acquire(name: string, timeoutMs: number): Aml {
  return concat([OP.extended, EXTENDED_OP.acquire], nameString(name), littleEndian(timeoutMs, 2));
}

export function release(name: string): Aml {
  return concat([OP.extended, EXTENDED_OP.release], nameString(name));
}

// Expressions (§20.2.5.4)

export function local(index: number): Aml {
  return [OP.local0 + index];
}

export function argument(index: number): Aml {
  return [OP.arg0 + index];
}

export function call(name: string, ...operands: readonly Term[]): Aml {
  return concat(nameString(name), ...operands.map(term));
}

export function index(source: Aml, at: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.index, source, at, target);
}

export function subtract(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.subtract, left, right, target);
}

export function bitAnd(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.and, left, right, target);
}

export function bitOr(left: Term, right: Term, target: Aml = NULL_TARGET): Aml {
  return operation(OP.or, left, right, target);
}

export function equal(left: Term, right: Term): Aml {
  return operation(OP.equal, left, right);
}

/** There is no opcode for it: LNotEqual is LNot of LEqual. (§20.2.5.4) */
export function notEqual(left: Term, right: Term): Aml {
  return operation(OP.logicalNot, equal(left, right));
}

export function less(left: Term, right: Term): Aml {
  return operation(OP.less, left, right);
}
