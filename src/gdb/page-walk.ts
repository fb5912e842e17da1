/**
 * From a linear address to a physical one, by a guest's page tables, without touching their accessed and dirty bits.
 * Pure. (Intel SDM 3A chapter 4; AMD APM 2 chapter 5)
 */

/** The registers that choose the paging mode and the tables. */
export interface PagingRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** Reads an entry of a table; undefined where there is no RAM. */
export type ReadEntry = (physical: number, bytes: 4 | 8) => bigint | undefined;

export interface Translation {
  readonly physical: number;
  /** Bytes from there to the end of the page. */
  readonly bytesLeft: number;
}

/** Bits of control registers, EFER and entries. */
export const PAGING = {
  pg: 1n << 31n,
  pse: 1n << 4n,
  pae: 1n << 5n,
  la57: 1n << 12n,
  lma: 1n << 10n,
  present: 1n,
  pageSize: 1n << 7n,
  addressMask: 0x000f_ffff_ffff_f000n,
} as const;
const ADDRESS_MASK = PAGING.addressMask;
const LOW_32 = 0xffff_ffffn;
const PAGE_SHIFT = 12n;

/** undefined where nothing is mapped, or a table is not in RAM. */
export function translate(
  linear: bigint,
  registers: PagingRegisters,
  read: ReadEntry,
): Translation | undefined {
  const { cr0, cr3, cr4, efer } = registers;
  if ((efer & PAGING.lma) !== 0n) {
    const levels = (cr4 & PAGING.la57) === 0n ? 4 : 5;
    if (!isCanonical(linear, levels)) return undefined;
    return walk(linear, { table: cr3 & ADDRESS_MASK, levels, entryBytes: 8, largest: 3 }, read);
  }
  const low = linear & LOW_32;
  if ((cr0 & PAGING.pg) === 0n) return within(low, low, PAGE_SHIFT);
  if ((cr4 & PAGING.pae) !== 0n) {
    // Of four page-directory-pointer entries, which have no size bit, bits 31:30 choose one. (SDM 3A §4.4.1)
    const pointer = read(Number((cr3 & 0xffff_ffe0n) + 8n * (low >> 30n)), 8);
    if (pointer === undefined || (pointer & PAGING.present) === 0n) return undefined;
    return walk(low, { table: pointer & ADDRESS_MASK, levels: 2, entryBytes: 8, largest: 2 }, read);
  }
  const largest = (cr4 & PAGING.pse) === 0n ? 1 : 2;
  return walk(low, { table: cr3 & 0xffff_f000n, levels: 2, entryBytes: 4, largest }, read);
}

/** Whether the bits above those that are translated equal the highest of these. */
function isCanonical(linear: bigint, levels: number): boolean {
  const bits = 12 + 9 * levels;
  return BigInt.asUintN(64, BigInt.asIntN(bits, linear)) === linear;
}

interface Tables {
  readonly table: bigint;
  readonly levels: number;
  readonly entryBytes: 4 | 8;
  /** The highest level whose entries may map a page: 2 MiB or 4 MiB at level 2, 1 GiB at level 3. */
  readonly largest: number;
}

function walk(
  linear: bigint,
  { table, levels, entryBytes, largest }: Tables,
  read: ReadEntry,
): Translation | undefined {
  const indexBits = entryBytes === 8 ? 9n : 10n;
  const indexMask = (1n << indexBits) - 1n;
  let base = table;
  for (let level = levels; level >= 1; level--) {
    const shift = PAGE_SHIFT + indexBits * BigInt(level - 1);
    const index = (linear >> shift) & indexMask;
    const entry = read(Number(base) + entryBytes * Number(index), entryBytes);
    if (entry === undefined || (entry & PAGING.present) === 0n) return undefined;
    const isLarge = level > 1 && (entry & PAGING.pageSize) !== 0n;
    if (isLarge && level > largest) {
      // A reserved bit in 64-bit tables; ignored in 32-bit ones without CR4.PSE.
      if (entryBytes === 8) return undefined;
    } else if (level === 1 || isLarge) {
      return within(frameOf(entry, shift, entryBytes), linear, shift);
    }
    base = entryBytes === 8 ? entry & ADDRESS_MASK : entry & 0xffff_f000n;
  }
  return undefined;
}

/** The address of the page that an entry maps. */
function frameOf(entry: bigint, shift: bigint, entryBytes: 4 | 8): bigint {
  const offsetMask = (1n << shift) - 1n;
  if (entryBytes === 8) return entry & ADDRESS_MASK & ~offsetMask;
  // PSE-36: bits 20:13 are bits 39:32 of the address of a 4 MiB page. (SDM 3A table 4-4)
  const high = shift === PAGE_SHIFT ? 0n : ((entry >> 13n) & 0xffn) << 32n;
  return (entry & LOW_32 & ~offsetMask) | high;
}

function within(frame: bigint, linear: bigint, shift: bigint): Translation {
  const size = 1n << shift;
  const offset = linear & (size - 1n);
  return { physical: Number((frame & ~(size - 1n)) | offset), bytesLeft: Number(size - offset) };
}
