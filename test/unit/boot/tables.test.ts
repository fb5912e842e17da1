/** Structures that every boot writes: GDT, page tables, E820, zero page, BIOS data area. */
import { describe, expect, test } from 'bun:test';
import { buildBiosDataArea } from '../../../src/boot/bios-data.ts';
import { buildE820 } from '../../../src/boot/e820.ts';
import { entryTables, longModeEntry, protectedModeEntry } from '../../../src/boot/entry-state.ts';
import { buildGdt, segmentState } from '../../../src/boot/gdt.ts';
import { buildPageTables, IDENTITY_MAPPED_BYTES } from '../../../src/boot/page-tables.ts';
import { buildInterruptVectors, buildRealModeHandlers } from '../../../src/boot/real-mode-handlers.ts';
import { buildResetVector } from '../../../src/boot/reset-vector.ts';
import { BOOT_PARAMS, buildZeroPage, E820_TABLE_ENTRY } from '../../../src/boot/zero-page.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { GIB, guestAddress, MIB } from '../../../src/machine/address.ts';
import { LAYOUT, ramRanges } from '../../../src/machine/layout.ts';

const descriptorsOf = (mode: 'long' | 'protected' | 'multiboot') => {
  const view = viewOf(buildGdt(mode));
  return Array.from({ length: view.byteLength / 8 }, (_, i) => view.getBigUint64(8 * i, true));
};

describe('the GDT', () => {
  test('of the 64-bit entry has 64-bit code, flat data and a task', () => {
    expect(descriptorsOf('long')).toEqual([
      0n,
      0n,
      0x00af_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x0000_8b00_0000_0067n,
    ]);
  });

  test('of the 32-bit entry has 32-bit code instead', () => {
    expect(descriptorsOf('protected')).toEqual([
      0n,
      0n,
      0x00cf_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x0000_8b00_0000_0067n,
    ]);
  });

  test('of the Multiboot entry has the same at 0x08, 0x10 and 0x18, where the GDTs of small kernels have them', () => {
    expect(descriptorsOf('multiboot')).toEqual([
      0n,
      0x00cf_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
      0x0000_8b00_0000_0067n,
    ]);
    const segments = (['code', 'data', 'task'] as const).map((kind) => segmentState('multiboot', kind));
    expect(segments.map(({ selector }) => selector)).toEqual([0x08, 0x10, 0x18]);
  });

  test('agrees with the segment registers that are loaded with it', () => {
    const flat = { base: 0, limit: 0xffff_ffff, dpl: 0, present: 1, s: 1, g: 1 } as const;
    expect(segmentState('long', 'code')).toEqual({ ...flat, selector: 0x10, type: 0xb, l: 1, db: 0 });
    expect(segmentState('protected', 'code')).toEqual({ ...flat, selector: 0x10, type: 0xb, l: 0, db: 1 });
    expect(segmentState('long', 'data')).toEqual({ ...flat, selector: 0x18, type: 0x3, l: 0, db: 1 });
    expect(segmentState('long', 'task')).toEqual({
      selector: 0x20,
      base: 0,
      limit: 0x67,
      type: 0xb,
      dpl: 0,
      present: 1,
      s: 0,
      l: 0,
      db: 0,
      g: 0,
    });
  });
});

describe('the page tables', () => {
  const view = viewOf(buildPageTables(guestAddress(0x9000)));
  const entry = (offset: number) => view.getBigUint64(offset, true);

  test('chain PML4, PDPT and page directory', () => {
    expect([entry(0), entry(0x1000)]).toEqual([0xa003n, 0xb003n]);
  });

  test('map the first GiB to itself in 2 MiB pages', () => {
    expect([entry(0x2000), entry(0x2008), entry(0x2ff8)]).toEqual([0x83n, 0x20_0083n, 0x3fe0_0083n]);
    expect(IDENTITY_MAPPED_BYTES).toBe(GIB);
  });

  test('map nothing else', () => {
    const others = Array.from({ length: 511 }, (_, i) => entry(8 + 8 * i) + entry(0x1008 + 8 * i));
    expect(new Set(others)).toEqual(new Set([0n]));
    expect(view.byteLength).toBe(LAYOUT.pageTables.bytes);
  });
});

describe('entry states', () => {
  test('of long mode have paging, PAE and long mode on', () => {
    const state = longModeEntry({ rip: 0x100_0000, rsi: 0x7000 });
    expect(state).toMatchObject({
      mode: 'long',
      rip: 0x100_0000,
      rsi: 0x7000,
      rsp: 0,
      cr0: 0x8000_0031,
      cr3: 0x9000,
      cr4: 0x20,
      efer: 0x500,
    });
    expect(state.gdt).toEqual({ base: LAYOUT.gdt.address, limit: 39 });
  });

  test('of protected mode have paging off', () => {
    expect(protectedModeEntry({ rip: 0x10_0000, rbx: 0x6000 })).toMatchObject({
      mode: 'protected',
      rip: 0x10_0000,
      rbx: 0x6000,
      cr0: 0x11,
      cr3: 0,
      cr4: 0,
      efer: 0,
    });
  });

  test('come with the tables they refer to', () => {
    const named = (mode: 'long' | 'protected') =>
      entryTables(mode).map(({ name, address }) => [name, address]);
    expect(named('long') as unknown[]).toEqual([
      ['gdt', 0x500],
      ['page-tables', 0x9000],
    ]);
    expect(named('protected') as unknown[]).toEqual([['gdt', 0x500]]);
  });
});

describe('the E820 map', () => {
  const FIRMWARE = [
    [0, 0x9_fc00, 1],
    [0x9_fc00, 0x400, 2],
    [0xf_0000, 0x1_0000, 2],
  ];

  test.each([
    [32 * MIB, [[MIB, 31 * MIB, 1]]],
    [512 * MIB, [[MIB, 511 * MIB, 1]]],
    [3 * GIB, [[MIB, 3 * GIB - MIB, 1]]],
    [6 * GIB, [[MIB, 3 * GIB - MIB, 1], [4 * GIB, 3 * GIB, 1]]], // prettier-ignore
  ])('of %p bytes has base memory, both reserved areas and the rest', (memoryBytes, ram) => {
    const entries = buildE820(ramRanges(memoryBytes)).map(({ address, bytes, type }) => [
      address,
      bytes,
      type,
    ]);
    expect(entries as unknown[]).toEqual([...FIRMWARE, ...ram]);
  });

  test('ascends without overlaps, and has all RAM but the hole at 640 KiB', () => {
    for (const mib of [32, 33, 100, 3071, 3072, 3073, 4096, 10_000]) {
      const entries = buildE820(ramRanges(mib * MIB));
      const wrong = entries.slice(1).filter((e, i) => entries[i]!.address + entries[i]!.bytes > e.address);
      const total = entries.reduce((sum, entry) => sum + entry.bytes, 0);
      expect(wrong).toEqual([]);
      expect(total).toBe(mib * MIB - (0xf_0000 - 0xa_0000));
    }
  });
});

describe('the zero page', () => {
  const initrd = { address: guestAddress(0x700_0000), bytes: 0x12_3456 };
  const e820 = buildE820(ramRanges(6 * GIB));
  const plain = buildZeroPage({ setupHeader: undefined, e820, initrd, rsdp: guestAddress(0xf_0000) });
  const view = viewOf(plain.bytes);

  test('of a vmlinux has the fields that a boot loader would set', () => {
    expect(plain.address as number).toBe(0x7000);
    expect(plain.bytes.length).toBe(4096);
    expect(view.getUint16(0x1fe, true)).toBe(0xaa55);
    expect(Buffer.from(plain.bytes).toString('latin1', 0x202, 0x206)).toBe('HdrS');
    expect(view.getUint8(0x210)).toBe(0xff);
    expect(view.getUint32(0x228, true)).toBe(0x2_0000);
    expect(view.getUint32(0x230, true)).toBe(0x100_0000);
  });

  test('names the initrd and the RSDP', () => {
    expect(view.getUint32(0x218, true)).toBe(0x700_0000);
    expect(view.getUint32(0x21c, true)).toBe(0x12_3456);
    expect(view.getBigUint64(0x70, true)).toBe(0xf_0000n);
  });

  test('leaves both at 0 where there is none', () => {
    const bare = viewOf(
      buildZeroPage({ setupHeader: undefined, e820, initrd: undefined, rsdp: undefined }).bytes,
    );
    expect([bare.getUint32(0x218, true), bare.getUint32(0x21c, true)]).toEqual([0, 0]);
    expect(bare.getBigUint64(0x70, true)).toBe(0n);
  });

  test('holds the E820 map in entries of 20 bytes from 0x2D0', () => {
    const entries = Array.from({ length: view.getUint8(0x1e8) }, (_, i) => {
      const at = 0x2d0 + 20 * i;
      return [view.getBigUint64(at, true), view.getBigUint64(at + 8, true), view.getUint32(at + 16, true)];
    });
    expect(entries).toEqual(e820.map(({ address, bytes, type }) => [BigInt(address), BigInt(bytes), type]));
    expect(E820_TABLE_ENTRY.size).toBe(20);
  });

  test('of a bzImage keeps its setup header but for what the loader sets', () => {
    const setupHeader = new Uint8Array(0x26c - 0x1f1).fill(0x5a);
    const { bytes } = buildZeroPage({ setupHeader, e820, initrd: undefined, rsdp: undefined });
    const set = [0x210, 0x228, 0x229, 0x22a, 0x22b];
    const changed = Array.from(setupHeader, (_, i) => 0x1f1 + i).filter((at) => bytes[at] !== 0x5a);
    expect(changed).toEqual(set);
    expect(bytes[0x26c]).toBe(0);
  });

  test('has the offsets of struct boot_params', () => {
    expect(BOOT_PARAMS).toMatchObject({
      acpiRsdpAddr: 0x70,
      e820Entries: 0x1e8,
      setupHeader: 0x1f1,
      version: 0x206,
      typeOfLoader: 0x210,
      loadFlags: 0x211,
      ramdiskImage: 0x218,
      cmdLinePtr: 0x228,
      initrdAddrMax: 0x22c,
      xloadFlags: 0x236,
      cmdlineSize: 0x238,
      prefAddress: 0x258,
      initSize: 0x260,
      e820Table: 0x2d0,
      size: 4096,
    });
  });
});

test('the BIOS data area tells of COM1, an FPU, where the EBDA starts and how much memory lies below', () => {
  const area = buildBiosDataArea();
  const view = viewOf(area);
  expect(area.length).toBe(256);
  expect(view.getUint16(0x00, true)).toBe(0x3f8);
  expect(view.getUint16(0x0e, true)).toBe(0x9fc0);
  expect(view.getUint16(0x10, true)).toBe(0x0202);
  expect(view.getUint16(0x13, true)).toBe(639);
  expect(area.filter((byte) => byte !== 0).length).toBe(8);
});

describe('the real-mode interrupt vectors', () => {
  const vectors = buildInterruptVectors();
  const view = viewOf(vectors);
  const handlers = buildRealModeHandlers();
  const { address } = LAYOUT.realModeHandlers;
  const target = (vector: number) =>
    view.getUint16(4 * vector + 2, true) * 16 + view.getUint16(4 * vector, true);
  const codeAt = (vector: number, bytes: number) =>
    Buffer.from(handlers.subarray(target(vector) - address).subarray(0, bytes)).toString('hex');

  test('all point into the firmware segment, at code', () => {
    const all = Array.from({ length: 256 }, (_, vector) => vector);
    expect(vectors.length).toBe(0x400);
    expect(all.every((vector) => target(vector) >= address && target(vector) <= 0xf_fff0)).toBe(true);
    expect(all.filter((vector) => codeAt(vector, 1) === '00')).toEqual([]);
  });

  test.each([
    ['a service sets CF and ZF of its caller and AH to 0x86', 0x15, '5589e5804e06415db486cf'],
    ['INT 11h reads the equipment word', 0x11, '1e6a401fa110001fcf'],
    ['INT 12h reads the KiB of base memory', 0x12, '1e6a401fa113001fcf'],
    ['IRQ 0 is acknowledged to the first PIC', 0x08, '50b020e62058cf'],
    ['IRQ 15 is acknowledged to both', 0x77, '50b020e6a0e62058cf'],
    ['an exception returns', 0x06, 'cf'],
    ['another returns', 0x42, 'cf'],
  ])('%s', (_, vector, code) => {
    expect(codeAt(vector, code.length / 2)).toBe(code);
  });

  test('that lead nowhere have the IRET at F000:FF53, those that would boot the reset', () => {
    expect([target(0x03), target(0xff)]).toEqual([0xf_ff53, 0xf_ff53]);
    expect([target(0x18), target(0x19)]).toEqual([0xf_fff0, 0xf_fff0]);
  });
});

test('the reset vector writes 6 to the reset control and halts, in 16-bit code', () => {
  const [load, port, write, halt] = ['b006', 'baf90c', 'ee', 'f4ebfd'];
  expect(LAYOUT.resetVector.address as number).toBe(0xf * 0x1_0000 + 0xfff0);
  expect(Buffer.from(buildResetVector()).toString('hex')).toBe(
    `${load}${port}${write}${halt}`.padEnd(32, '0'),
  );
});
