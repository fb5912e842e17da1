/**
 * Symbol tables, which map code addresses such as RIP to names. They come from ELF files and from System.map.
 */

/** A symbol, as read from a file. */
export interface SymbolEntry {
  readonly address: bigint;
  readonly name: string;
  /** If an address has several names, the one with the lowest rank is used. */
  readonly rank: number;
}

/** First and last address of code. Addresses outside all ranges have no name. */
export interface CodeRange {
  readonly start: bigint;
  readonly end: bigint;
}

export interface SymbolTable {
  /** Name of the file. */
  readonly source: string;
  /** Ascending, each address once. */
  readonly addresses: BigUint64Array;
  readonly names: readonly string[];
  readonly ranges: readonly CodeRange[];
}

/** Builds a table from entries in any order. */
export function buildSymbolTable(
  source: string,
  entries: readonly SymbolEntry[],
  ranges: readonly CodeRange[],
): SymbolTable {
  const sorted = [...entries].sort((a, b) =>
    a.address === b.address ? a.rank - b.rank : a.address < b.address ? -1 : 1,
  );
  const kept = sorted.filter(({ address }, i) => i === 0 || sorted[i - 1]!.address !== address);
  const addresses = BigUint64Array.from(kept, ({ address }) => address);
  return { source, addresses, names: kept.map(({ name }) => name), ranges };
}

/**
 * `default_idle+0x13`: the last symbol at or before `address`, and the offset from it. undefined outside the
 * table's code: in user space, in modules, and in a kernel that runs at another address than it was linked
 * to.
 */
export function describeAddress(table: SymbolTable, address: bigint): string | undefined {
  if (!table.ranges.some(({ start, end }) => address >= start && address <= end)) return undefined;
  const { addresses, names } = table;
  let low = 0;
  let high = addresses.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (addresses[middle]! <= address) low = middle + 1;
    else high = middle;
  }
  const name = names[low - 1];
  if (name === undefined) return undefined;
  const offset = address - addresses[low - 1]!;
  return offset === 0n ? name : `${name}+0x${offset.toString(16)}`;
}
