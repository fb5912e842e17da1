import { describe, expect, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { parseElf } from '../../../src/boot/elf.ts';
import { planBoot } from '../../../src/boot/plan-boot.ts';
import { MEMMAP_ENTRY, MODULE_ENTRY, pvhEntry, START_INFO } from '../../../src/boot/pvh.ts';
import { GIB, guestAddress, MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';
import { voltErrorOf } from '../support/errors.ts';
import { bootInputs, buildElf, buildNote, initrdOf, LINUX_NOTE, pvhNote, u32Bytes } from './images.ts';

const entryOf = (notes: Uint8Array) => pvhEntry(parseElf(bytesAsSource('kernel', buildElf({ notes }))));
const KERNEL = buildElf({ notes: pvhNote(0x10_0010) });

describe('the PVH note', () => {
  test.each([
    ['4 bytes', u32Bytes(0x10_0010)],
    ['8 bytes', u32Bytes(0x10_0010, 0)],
  ])('of %s names the entry', (_, content) => {
    expect(entryOf(buildNote('Xen', 18, content))).toBe(0x10_0010);
  });

  test('of 8 bytes is read whole', () => {
    expect(entryOf(buildNote('Xen', 18, u32Bytes(1, 1)))).toBe(2 ** 32 + 1);
  });

  test.each([
    ['another type', buildNote('Xen', 17, u32Bytes(1))],
    ['another owner', buildNote('XEN', 18, u32Bytes(1))],
    ['too little content', buildNote('Xen', 18, Uint8Array.of(1, 2, 3))],
  ])('is not one with %s', (_, notes) => {
    expect(entryOf(notes)).toBeUndefined();
  });

  test('is found behind other notes', () => {
    expect(entryOf(Uint8Array.of(...buildNote('Xen', 5, u32Bytes(9)), ...pvhNote(7)))).toBe(7);
  });
});

describe('a PVH kernel', () => {
  test.each([
    [64, '64-bit ELF kernel, PVH entry'],
    [32, '32-bit ELF kernel, PVH entry'],
  ] as const)('of %p bits is entered in protected mode with start_info in EBX', (bits, summary) => {
    const plan = planBoot(bootInputs(buildElf({ bits, notes: pvhNote(0x10_0010) })));
    expect(plan).toMatchObject({ protocol: 'pvh', summary });
    expect(plan.entry).toMatchObject({ mode: 'protected', rip: 0x10_0010, rbx: 0x6000 });
  });

  test('is given GDT, start_info and command line, and no page tables', () => {
    const { writes } = planBoot(bootInputs(KERNEL));
    expect(writes.map(({ name, address }) => [name, address] as unknown)).toEqual([
      ['gdt', 0x500],
      ['pvh-start-info', 0x6000],
      ['command-line', 0x2_0000],
      ['interrupt-vectors', 0],
      ['bios-data-area', 0x400],
      ['real-mode-handlers', 0xf_ff00],
    ]);
  });

  test('finds magic, version, command line and RSDP in start_info', () => {
    const rsdp = guestAddress(0xe_0000);
    const info = viewOf(planBoot(bootInputs(KERNEL, { rsdp })).writes[1]!.bytes);
    expect(info.getUint32(0x00, true)).toBe(0x336e_c578);
    expect(info.getUint32(0x04, true)).toBe(1);
    expect(info.getBigUint64(0x18, true)).toBe(0x2_0000n);
    expect(info.getBigUint64(0x20, true)).toBe(0xe_0000n);
  });

  test('finds the memory map behind it', () => {
    const info = viewOf(planBoot(bootInputs(KERNEL, { ranges: ramRanges(5 * GIB) })).writes[1]!.bytes);
    const at = Number(info.getBigUint64(0x28, true)) - 0x6000;
    const map = Array.from({ length: info.getUint32(0x30, true) }, (_, i) => [
      info.getBigUint64(at + 24 * i, true),
      info.getBigUint64(at + 24 * i + 8, true),
      info.getUint32(at + 24 * i + 16, true),
    ]);
    expect(map).toEqual([
      [0n, 0x9_fc00n, 1],
      [0x9_fc00n, 0x400n, 2],
      [0xf_0000n, 0x1_0000n, 2],
      [0x10_0000n, 0xbff0_0000n, 1],
      [0x1_0000_0000n, 0x8000_0000n, 1],
    ]);
  });

  test('finds its initrd as the one module', () => {
    const plan = planBoot(bootInputs(KERNEL, { initrd: initrdOf(5000) }));
    const info = viewOf(plan.writes[1]!.bytes);
    const at = Number(info.getBigUint64(0x10, true)) - 0x6000;
    expect(info.getUint32(0x0c, true)).toBe(1);
    expect(info.getBigUint64(at, true)).toBe(BigInt(128 * MIB - 8192));
    expect(info.getBigUint64(at + 8, true)).toBe(5000n);
    expect(plan.loads.map((load) => load.name)).toEqual(['kernel-segment-0', 'initrd']);
  });

  test('takes a program as its module, but not if it is Linux', () => {
    const program = bytesAsSource('module', buildElf());
    const linux = buildElf({ notes: Uint8Array.of(...pvhNote(0x10_0010), ...LINUX_NOTE) });

    const { loads } = planBoot(bootInputs(KERNEL, { initrd: program }));
    const refused = voltErrorOf(() => planBoot(bootInputs(linux, { initrd: program }), 'pvh'));

    expect(loads.at(-1)!.fileBytes).toBe(program.bytes);
    expect(refused.message).toContain('it is a kernel or a program');
  });

  test('without an initrd has no module', () => {
    const info = viewOf(planBoot(bootInputs(KERNEL)).writes[1]!.bytes);
    expect([info.getUint32(0x0c, true), info.getBigUint64(0x10, true)]).toEqual([0, 0n]);
  });

  test('whose note points outside its segments is refused', () => {
    const outside = buildElf({ notes: pvhNote(0x10_0100) });
    expect(voltErrorOf(() => planBoot(bootInputs(outside))).message).toBe(
      'Cannot load kernel: the entry point of its PVH note is 0x100100 (expected an address inside one of its segments)',
    );
  });

  test('is asked for in vain where there is no note', () => {
    expect(voltErrorOf(() => planBoot(bootInputs(buildElf()), 'pvh')).message).toBe(
      'Cannot load kernel: --boot pvh was given, but it has no PVH note; leave out --boot, or use a kernel for that protocol',
    );
  });

  test('may be forced into the Linux protocol', () => {
    expect(planBoot(bootInputs(KERNEL), 'linux').protocol).toBe('linux');
  });
});

test('structures have the sizes of start_info.h', () => {
  expect([START_INFO.size, MODULE_ENTRY.size, MEMMAP_ENTRY.size]).toEqual([56, 32, 24]);
});
