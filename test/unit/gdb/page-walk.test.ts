/** Linear to physical addresses in each paging mode, by tables as the manuals draw them. */
import { describe, expect, test } from 'bun:test';
import { translate, type PagingRegisters } from '../../../src/gdb/page-walk.ts';

const PE = 1n;
const PG = 1n << 31n;
const PSE = 1n << 4n;
const PAE = 1n << 5n;
const LA57 = 1n << 12n;
const LMA = 1n << 10n;
const PRESENT = 1n;
const LARGE = 1n << 7n;
const NX = 1n << 63n;
const ACCESSED_DIRTY_USER = 0x66n;

const LONG: PagingRegisters = { cr0: PE | PG, cr3: 0x1000n, cr4: PAE, efer: LMA };

/** Tables by the physical addresses of their entries; everything else is 0, and from 16 MiB on there is no RAM. */
function walk(linear: bigint, registers: PagingRegisters, entries: Readonly<Record<number, bigint>>) {
  return translate(linear, registers, (physical) => {
    return physical < 0x100_0000 ? (entries[physical] ?? 0n) : undefined;
  });
}

describe('without paging', () => {
  test('a linear address is the physical one, and has 32 bits', () => {
    const registers = { cr0: PE, cr3: 0n, cr4: 0n, efer: 0n };

    expect(walk(0x1_0000_8001n, registers, {})).toEqual({ physical: 0x8001, bytesLeft: 0xfff });
  });
});

describe('in 64-bit mode', () => {
  // 0xffff_8123_4567_89ab: indices 258, 141, 43, 120 (SDM 3A figure 4-8).
  const linear = 0xffff_8123_4567_89abn;
  const tables = {
    [0x1000 + 8 * 258]: 0x2000n | PRESENT,
    [0x2000 + 8 * 141]: 0x3000n | PRESENT | ACCESSED_DIRTY_USER,
    [0x3000 + 8 * 43]: 0x4000n | PRESENT,
    [0x4000 + 8 * 120]: 0x7_6543_2000n | PRESENT | NX,
  };

  test('four levels lead to a page of 4 KiB', () => {
    expect(walk(linear, LONG, tables)).toEqual({ physical: 0x7_6543_29ab, bytesLeft: 0x655 });
  });

  test('the low bits of CR3, a PCID or flags, are no part of the address', () => {
    expect(walk(linear, { ...LONG, cr3: 0x1fffn }, tables)?.physical).toBe(0x7_6543_29ab);
  });

  test('an entry of a page directory maps 2 MiB', () => {
    const large = { ...tables, [0x3000 + 8 * 43]: 0xc00_0000n | PRESENT | LARGE | 0x1000n };

    expect(walk(linear, LONG, large)).toEqual({ physical: 0xc07_89ab, bytesLeft: 0x20_0000 - 0x7_89ab });
  });

  test('an entry of a page-directory-pointer table maps 1 GiB', () => {
    const huge = { ...tables, [0x2000 + 8 * 141]: 0x1_4000_0000n | PRESENT | LARGE };

    expect(walk(linear, LONG, huge)?.physical).toBe(0x1_4567_89ab);
  });

  test('with CR4.LA57 a fifth level comes first', () => {
    const five = { [0x5000 + 8 * 511]: 0x1000n | PRESENT, ...tables };

    expect(walk(linear, { ...LONG, cr3: 0x5000n, cr4: PAE | LA57 }, five)?.physical).toBe(0x7_6543_29ab);
  });

  test.each([0x0000_8123_4567_89abn, 0x8000_0000_0000_0000n, 0xfffe_8123_4567_89abn])(
    'nothing is at %p, which is not canonical',
    (address) => {
      expect(walk(address, LONG, tables)).toBeUndefined();
    },
  );

  test('nothing is where an entry is not present, at any level', () => {
    const without = Object.keys(tables).map((missing) => walk(linear, LONG, { ...tables, [missing]: 0n }));

    expect(without).toEqual(Array(4).fill(undefined));
  });

  test('nothing is behind a table outside of RAM, or a large page of 512 GiB', () => {
    const outside = { ...tables, [0x2000 + 8 * 141]: 0x200_0000n | PRESENT };
    const tooLarge = { ...tables, [0x1000 + 8 * 258]: PRESENT | LARGE };

    expect(walk(linear, LONG, outside)).toBeUndefined();
    expect(walk(linear, LONG, tooLarge)).toBeUndefined();
  });

  test('a table that leads to itself ends', () => {
    const loop = { [0x1000 + 8 * 511]: 0x1000n | PRESENT };

    expect(walk(0xffff_ffff_ffff_fff8n, LONG, loop)).toEqual({ physical: 0x1ff8, bytesLeft: 8 });
  });
});

describe('in 32-bit mode with PAE', () => {
  const registers = { cr0: PE | PG, cr3: 0x1020n, cr4: PAE, efer: 0n };
  // 0xc123_4567: pointer 3, indices 9 and 52.
  const tables = {
    [0x1020 + 8 * 3]: 0x2000n | PRESENT,
    [0x2000 + 8 * 9]: 0x3000n | PRESENT,
    [0x3000 + 8 * 52]: 0x9_8765_4000n | PRESENT,
  };

  test('three levels lead to a page of 4 KiB', () => {
    expect(walk(0xc123_4567n, registers, tables)?.physical).toBe(0x9_8765_4567);
  });

  test('an entry of a page directory maps 2 MiB', () => {
    const large = { ...tables, [0x2000 + 8 * 9]: 0x1_0020_0000n | PRESENT | LARGE };

    expect(walk(0xc123_4567n, registers, large)?.physical).toBe(0x1_0023_4567);
  });
});

describe('in 32-bit mode', () => {
  const registers = { cr0: PE | PG, cr3: 0x1000n, cr4: PSE, efer: 0n };
  // 0xc123_4567: indices 772 and 564.
  const tables = {
    [0x1000 + 4 * 772]: 0x2000n | PRESENT,
    [0x2000 + 4 * 564]: 0x8765_4000n | PRESENT,
  };

  test('two levels lead to a page of 4 KiB', () => {
    expect(walk(0xc123_4567n, registers, tables)).toEqual({ physical: 0x8765_4567, bytesLeft: 0xa99 });
  });

  test('an entry of a page directory maps 4 MiB, with address bits 39 to 32 in its bits 20 to 13', () => {
    const large = { [0x1000 + 4 * 772]: 0x0040_0000n | (0x12n << 13n) | PRESENT | LARGE };

    expect(walk(0xc123_4567n, registers, large)?.physical).toBe(0x12_0063_4567);
  });

  test('without CR4.PSE the size bit is ignored', () => {
    const ignored = { ...tables, [0x1000 + 4 * 772]: 0x2000n | PRESENT | LARGE };

    expect(walk(0xc123_4567n, { ...registers, cr4: 0n }, ignored)?.physical).toBe(0x8765_4567);
  });
});
