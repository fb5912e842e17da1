/** Reads the structures of a table that start with a type byte and a length byte. */
import { hex, viewOf } from '../binary/bytes.ts';

export interface Entry {
  readonly type: number;
  /** From the start of the table, in bytes. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/**
 * The structures of `table` from offset `first` whose type is in `sizes`, which gives the minimum length of
 * each type. Other types are skipped, as kernels do. Errors are appended to `problems`.
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
      problems.push(`${name}: the structure at offset ${hex(offset)} has an invalid length of ${length}`);
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

/** Each value that occurs more than once. */
export function findDuplicates<T>(values: readonly T[]): T[] {
  const seen = new Set<T>();
  const again = new Set<T>();
  for (const value of values) {
    if (seen.has(value)) again.add(value);
    seen.add(value);
  }
  return [...again];
}
