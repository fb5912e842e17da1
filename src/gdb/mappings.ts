/**
 * All that a guest's page tables map, as ranges that are contiguous in linear and in physical memory. Pure. A hostile
 * guest's tables may lead to each other in circles, so the walk has a limit. (Intel SDM 3A chapter 4)
 */
import { PAGING, type PagingRegisters } from './page-walk.ts';

export interface Mapping {
  readonly linear: bigint;
  readonly physical: number;
  readonly bytes: number;
}

export interface Mappings {
  readonly ranges: readonly Mapping[];
  /** False where the walk met one of its limits. */
  readonly isComplete: boolean;
}

/** Reads a table of 4 KiB; undefined where there is no RAM. */
export type ReadTable = (physical: number) => DataView | undefined;

/** Linux with 64 GiB has some thousand. Half a second for tables of a hostile guest. */
const MAX_TABLES = 16_384;
const TABLE_BYTES = 4096;
/** Tables are walked in numbers: a page's has at most 45 bits. */
const PAGE_BITS = 12;
const PAGE_BYTES = 2 ** PAGE_BITS;
const TWO_POW_32 = 2 ** 32;
/** Bits of an entry's lower half. */
const PRESENT = 1;
const PAGE_SIZE = 1 << 7;
const ADDRESS_HIGH = 0x000f_ffff;

/** In pages of 4 KiB. */
interface PageRange {
  readonly linear: number;
  readonly physical: number;
  pages: number;
}

interface Walk {
  readonly read: ReadTable;
  readonly isWide: boolean;
  /** The highest level whose entries may map a page. */
  readonly largest: number;
  readonly most: number;
  readonly ranges: PageRange[];
  /** Tables below the first that were walked, by level and address: an alias of one is left out. */
  readonly seen: Set<number>;
  tables: number;
  isComplete: boolean;
}

/** undefined without paging, where linear addresses are physical. At most `most` ranges. */
export function listMappings(
  { cr0, cr3, cr4, efer }: PagingRegisters,
  read: ReadTable,
  most: number,
): Mappings | undefined {
  if ((cr0 & PAGING.pg) === 0n) return undefined;
  const isLong = (efer & PAGING.lma) !== 0n;
  const isPae = isLong || (cr4 & PAGING.pae) !== 0n;
  const levels = isLong ? ((cr4 & PAGING.la57) === 0n ? 4 : 5) : isPae ? 3 : 2;
  const largest = isLong ? 3 : isPae || (cr4 & PAGING.pse) !== 0n ? 2 : 1;
  const walk: Walk = {
    read,
    isWide: isPae,
    largest,
    most,
    ranges: [],
    seen: new Set(),
    tables: 0,
    isComplete: true,
  };
  const root = Number(isLong ? cr3 & PAGING.addressMask : cr3 & (isPae ? 0xffff_ffe0n : 0xffff_f000n));
  const offset = root % TABLE_BYTES;
  // The four entries of PAE's first table need not start a page.
  const end = isPae && !isLong ? offset + 4 * 8 : TABLE_BYTES;
  const table = root - offset;
  if (isLong) {
    // The upper half first, where kernels are: a process may have more than there is room for.
    const half = TABLE_BYTES / 2;
    const linear = 2 ** (9 * levels - 1);
    visit(walk, { table, level: levels, linear, offset: half, end: TABLE_BYTES });
    visit(walk, { table, level: levels, linear: 0, offset: 0, end: half });
  } else visit(walk, { table, level: levels, linear: 0, offset, end: Math.min(end, TABLE_BYTES) });
  const signBits = isLong ? PAGE_BITS + 9 * levels : 64;
  const ranges = walk.ranges.map(({ linear, physical, pages }) => ({
    linear: BigInt.asUintN(64, BigInt.asIntN(signBits, BigInt(linear) << BigInt(PAGE_BITS))),
    physical: physical * PAGE_BYTES,
    bytes: pages * PAGE_BYTES,
  }));
  return { ranges, isComplete: walk.isComplete };
}

interface Table {
  readonly table: number;
  readonly level: number;
  /** Page that its first entry maps. */
  readonly linear: number;
  /** Where its entries start and end. */
  readonly offset: number;
  readonly end: number;
}

function visit(walk: Walk, { table, level, linear, offset, end }: Table): void {
  if (++walk.tables > MAX_TABLES) walk.isComplete = false;
  if (!walk.isComplete) return;
  const entries = walk.read(table);
  if (!entries) return;
  const entryBytes = walk.isWide ? 8 : 4;
  const pages = 2 ** ((walk.isWide ? 9 : 10) * (level - 1));
  for (let at = offset; at < end && walk.isComplete; at += entryBytes) {
    const low = entries.getUint32(at, true);
    if ((low & PRESENT) === 0) continue;
    const high = walk.isWide ? entries.getUint32(at + 4, true) & ADDRESS_HIGH : 0;
    const target = high * (TWO_POW_32 / PAGE_BYTES) + (low >>> PAGE_BITS);
    const first = linear + ((at - offset) / entryBytes) * pages;
    const isLarge = level > 1 && level <= walk.largest && (low & PAGE_SIZE) !== 0;
    if (level === 1 || isLarge) add(walk, first, target - (target % pages), pages);
    else if (!walk.seen.has(target * 8 + level)) {
      // Linux has the tables of its ESPFIX area 65,536 times. (arch/x86/kernel/espfix_64.c)
      walk.seen.add(target * 8 + level);
      const next = { table: target * PAGE_BYTES, level: level - 1, linear: first };
      visit(walk, { ...next, offset: 0, end: TABLE_BYTES });
    }
  }
}

function add(walk: Walk, linear: number, physical: number, pages: number): void {
  const last = walk.ranges.at(-1);
  if (last && last.linear + last.pages === linear && last.physical + last.pages === physical) {
    last.pages += pages;
  } else if (walk.ranges.length < walk.most) walk.ranges.push({ linear, physical, pages });
  else walk.isComplete = false;
}
