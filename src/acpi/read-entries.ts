/** Walks the structures inside a table that start with a type and a length, a byte each. */
import { hex, viewOf } from '../binary/bytes.ts';

export interface Entry {
  readonly type: number;
  /** From the start of the table. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/**
 * The structures of `table` from offset `first` that are as long as `sizes` wants their type to be; types that it
 * does not list are left out, as kernels do. What is wrong goes into `problems`.
 */
export function readEntries(
  name: string,
  table: Uint8Array,
  first: number,
  sizes: Readonly<Record<number, number>>,
  problems: string[],
): Entry[] {
  const entries: Entry[] = [];
  for (let offset = first; offset < table.length;) {
    const type = table[offset]!;
    const length = table[offset + 1] ?? 0;
    if (length < 2 || offset + length > table.length) {
      problems.push(`${name}: the structure at offset ${hex(offset)} has a length of ${length}`);
      break;
    }
    const size = sizes[type];
    const bytes = table.subarray(offset, offset + length);
    if (size !== undefined && length < size) {
      problems.push(`${name}: the structure at offset ${hex(offset)} has ${length} bytes (expected ${size})`);
    } else if (size !== undefined) {
      entries.push({ type, offset, bytes, view: viewOf(bytes) });
    }
    offset += length;
  }
  return entries;
}

/** Every value of `values` that stands there more than once, once. */
export function findDuplicates<T>(values: readonly T[]): T[] {
  const seen = new Set<T>();
  const again = new Set<T>();
  for (const value of values) {
    if (seen.has(value)) again.add(value);
    seen.add(value);
  }
  return [...again];
}
