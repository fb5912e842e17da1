/** All that page tables map, those included that never end. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { listMappings } from '../../../src/gdb/mappings.ts';

/** For hangs only. */
setDefaultTimeout(60_000);
const PE_PG = 1n | (1n << 31n);
const PAE = 1n << 5n;
const LMA = 1n << 10n;
const LONG = { cr0: PE_PG, cr3: 0x1000n, cr4: PAE, efer: LMA };
const PRESENT = 1n;
const LARGE = 1n << 7n;

/** Tables by the addresses of their entries of eight bytes. */
function memoryOf(entries: Readonly<Record<number, bigint>>) {
  return (physical: number) => {
    const view = new DataView(new ArrayBuffer(4096));
    for (const [at, entry] of Object.entries(entries)) {
      const offset = Number(at) - physical;
      if (offset >= 0 && offset < 4096) view.setBigUint64(offset, entry, true);
    }
    return view;
  };
}

test('without paging there are none', () => {
  expect(listMappings({ ...LONG, cr0: 1n }, memoryOf({}), 10)).toBeUndefined();
});

test('pages that follow each other in linear and physical memory are one range, whatever their size', () => {
  const entries = {
    [0x1000 + 8 * 256]: 0x2000n | PRESENT,
    [0x2000]: 0x3000n | PRESENT,
    [0x3000]: 0x20_0000n | PRESENT | LARGE,
    [0x3000 + 8]: 0x4000n | PRESENT,
    [0x4000]: 0x40_0000n | PRESENT,
    [0x4000 + 8]: 0x40_1000n | PRESENT,
    [0x4000 + 24]: 0x80_0000n | PRESENT,
  };

  const found = listMappings(LONG, memoryOf(entries), 10);

  expect(found).toEqual({
    ranges: [
      { linear: 0xffff_8000_0000_0000n, physical: 0x20_0000, bytes: 0x20_2000 },
      { linear: 0xffff_8000_0020_3000n, physical: 0x80_0000, bytes: 0x1000 },
    ],
    isComplete: true,
  });
});

test('a page of 1 GiB is one range', () => {
  const entries = { [0x1000]: 0x2000n | PRESENT, [0x2000 + 8]: 0x4000_0000n | PRESENT | LARGE };

  expect(listMappings(LONG, memoryOf(entries), 10)?.ranges).toEqual([
    { linear: 0x4000_0000n, physical: 0x4000_0000, bytes: 0x4000_0000 },
  ]);
});

test('with PAE four entries come first, anywhere in a page', () => {
  const entries = { [0x1020 + 8 * 3]: 0x2000n | PRESENT, [0x2000]: 0x60_0000n | PRESENT | LARGE };
  const registers = { ...LONG, cr3: 0x1020n, efer: 0n };

  expect(listMappings(registers, memoryOf(entries), 10)?.ranges).toEqual([
    { linear: 0xc000_0000n, physical: 0x60_0000, bytes: 0x20_0000 },
  ]);
});

test('ranges above the limit are left out, and that is said', () => {
  const entries = {
    [0x1000]: 0x2000n | PRESENT,
    [0x2000]: 0x3000n | PRESENT,
    [0x3000]: PRESENT | LARGE,
    [0x3010]: 0x20_0000n | PRESENT | LARGE,
  };

  const found = listMappings(LONG, memoryOf(entries), 1);

  expect(found?.ranges).toHaveLength(1);
  expect(found?.isComplete).toBe(false);
});

test('a table that is in several places is listed in the first, and the rest of memory is not lost', () => {
  const entries = {
    [0x1000 + 8 * 510]: 0x2000n | PRESENT,
    ...Object.fromEntries(Array.from({ length: 511 }, (_, i) => [0x2000 + 8 * i, 0x3000n | PRESENT])),
    [0x3000]: 0x4000n | PRESENT,
    [0x4000]: 0x8_0000n | PRESENT,
    [0x1000 + 8 * 511]: 0x5000n | PRESENT,
    [0x5000 + 8 * 510]: 0x4000_0000n | PRESENT | LARGE,
  };

  expect(listMappings(LONG, memoryOf(entries), 10)).toEqual({
    ranges: [
      { linear: 0xffff_ff00_0000_0000n, physical: 0x8_0000, bytes: 0x1000 },
      { linear: 0xffff_ffff_8000_0000n, physical: 0x4000_0000, bytes: 0x4000_0000 },
    ],
    isComplete: true,
  });
});

test('tables that all lead to each other are walked once', () => {
  const full = new DataView(new ArrayBuffer(4096));
  for (let at = 0; at < 4096; at += 8) full.setBigUint64(at, 0x1000n | PRESENT, true);
  let reads = 0;
  const read = () => {
    reads++;
    return full;
  };

  listMappings(LONG, read, 100);

  expect(reads).toBeLessThan(10);
});

test('a guest of nothing but tables ends at the limit of tables', () => {
  let reads = 0;
  const read = (physical: number) => {
    reads++;
    const table = new DataView(new ArrayBuffer(4096));
    for (let i = 0; i < 512; i++) {
      const page = ((physical / 4096) * 512 + i + 1) % 2 ** 40;
      table.setUint32(8 * i, ((page % 2 ** 20) * 4096 + 1) >>> 0, true);
      table.setUint32(8 * i + 4, Math.floor(page / 2 ** 20), true);
    }
    return table;
  };

  const found = listMappings(LONG, read, 1_000_000_000);

  expect(found?.isComplete).toBe(false);
  expect(reads).toBeLessThanOrEqual(16_384);
});
