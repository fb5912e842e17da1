import { describe, expect, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { elfLoads } from '../../../src/boot/elf-loads.ts';
import { parseElf, physicalEntry } from '../../../src/boot/elf.ts';
import { voltErrorOf } from '../support/errors.ts';
import { buildElf, buildNote, CONTENT_OFFSET, u32Bytes, type ElfSpec } from './images.ts';

const parse = (spec?: ElfSpec) => parseElf(bytesAsSource('vmlinux', buildElf(spec)));

function messageFor(bytes: Uint8Array): string {
  return voltErrorOf(() => parseElf(bytesAsSource('vmlinux', bytes))).message;
}

/** A default image with a byte, or a few, replaced. */
function patched(offset: number, ...bytes: number[]): Uint8Array {
  const file = buildElf();
  file.set(bytes, offset);
  return file;
}

describe('parseElf', () => {
  test.each([32, 64] as const)('reads entry and segments of a %p-bit executable', (bits) => {
    const image = parse({
      bits,
      entry: 0x10_0040,
      segments: [{ memoryBytes: 0x3000 }, { paddr: 0x20_0000, vaddr: 0x8020_0000, fileBytes: 16 }],
    });
    expect(image).toMatchObject({
      bits,
      entry: 0x10_0040n,
      segments: [
        { fileOffset: CONTENT_OFFSET, physicalAddress: 0x10_0000, fileBytes: 256, memoryBytes: 0x3000 },
        { physicalAddress: 0x20_0000, virtualAddress: 0x8020_0000n, fileBytes: 16, memoryBytes: 16 },
      ],
    });
  });

  test('leaves out segments that take no memory', () => {
    const image = parse({ segments: [{}, { paddr: 0, fileBytes: 0, memoryBytes: 0 }] });
    expect(image.segments.length).toBe(1);
  });

  test('takes ET_DYN, as relocatable kernels are', () => {
    expect(parse({ type: 3 }).segments.length).toBe(1);
  });

  test('reads every note with its owner, type and content', () => {
    const notes = Uint8Array.of(
      ...buildNote('Xen', 18, u32Bytes(0x10_0000)),
      ...buildNote('Linux', 0x101, Uint8Array.of(1, 2, 3)),
    );
    expect(parse({ notes }).notes).toEqual([
      { owner: 'Xen', type: 18, content: u32Bytes(0x10_0000) },
      { owner: 'Linux', type: 0x101, content: Uint8Array.of(1, 2, 3) },
    ]);
  });

  test('reads notes of 8-byte alignment', () => {
    const notes = Uint8Array.of(
      ...buildNote('Xen', 18, u32Bytes(0x10_0000), 8),
      ...buildNote('Linux', 0x100, u32Bytes(7), 8),
    );
    expect(parse({ notes, noteAlign: 8 }).notes.map((note) => note.owner)).toEqual(['Xen', 'Linux']);
  });

  test.each([
    ['owner', u32Bytes(0xffff_ffff, 4, 18, 0x6e65_5800)],
    ['content', u32Bytes(4, 0xffff_ffff, 18, 0x006e_6558)],
    ['header', Uint8Array.of(4, 0, 0)],
  ])('ignores a note whose %s goes beyond its segment', (_, notes) => {
    expect(parse({ notes }).notes).toEqual([]);
  });

  test('ignores a note segment beyond the end of the file', () => {
    const image = parse({ segments: [{}, { type: 4, offset: 0x10_0000, fileBytes: 64 }] });
    expect(image.notes).toEqual([]);
  });
});

describe('what a kernel has no bytes for', () => {
  const [NOBITS, PROGBITS, ALLOC, TLS] = [8, 1, 2, 0x400];
  const BASE = 0xffff_ffff_8100_0000n;
  const zeroesOf = (sections: ElfSpec['sections'], bits: 32 | 64 = 64) => {
    const vaddr = bits === 64 ? BASE : Number(BASE & 0xffff_ffffn);
    const image = parse({ bits, segments: [{ vaddr, fileBytes: 0x100 }], sections: sections! });
    return elfLoads(image)[0]!.zeroes;
  };
  const nobits = (from: number, bytes: number | bigint) => ({
    type: NOBITS,
    flags: ALLOC,
    address: BASE + BigInt(from),
    bytes,
  });

  test('is left out of what is read, in order, also in the middle of a segment', () => {
    expect(zeroesOf([nobits(0x80, 0x10), nobits(0x20, 0x40), nobits(0xf0, 0x10)])).toEqual([
      { start: 0x20, end: 0x60 },
      { start: 0x80, end: 0x90 },
      { start: 0xf0, end: 0x100 },
    ]);
  });

  test('is found in 32-bit files as well', () => {
    const section = { ...nobits(0x20, 0x40), address: 0x8100_0020 };
    expect(zeroesOf([section], 32)).toEqual([{ start: 0x20, end: 0x60 }]);
  });

  test.each([
    ['has bytes', { ...nobits(0, 16), type: PROGBITS }],
    ['takes no memory', { ...nobits(0, 16), flags: 0 }],
    ['is made anew for each thread', { ...nobits(0, 16), flags: ALLOC | TLS }],
    ['lies before the segment', { ...nobits(0, 16), address: BASE - 1n }],
    ['lies behind its bytes in the file', nobits(0x100, 16)],
    ['ends behind them', nobits(0xf8, 16)],
    ['is larger than all memory', nobits(0, 2n ** 64n - 1n)],
    ['is empty', nobits(0x20, 0)],
  ])('but not a section that %s', (_, section) => {
    expect(zeroesOf([section])).toEqual([]);
  });

  test('is counted once where sections overlap', () => {
    expect(zeroesOf([nobits(0x20, 0x40), nobits(0x30, 0x40), nobits(0x60, 8)])).toEqual([
      { start: 0x20, end: 0x60 },
      { start: 0x60, end: 0x68 },
    ]);
  });

  test('does not matter when the section table is beyond the end of the file', () => {
    const file = buildElf({ sections: [nobits(0, 16)], segments: [{ vaddr: BASE }] });
    const image = parseElf(bytesAsSource('vmlinux', file.subarray(0, -1)));
    expect(elfLoads(image)[0]!.zeroes).toEqual([]);
  });
});

describe('parseElf refuses', () => {
  test.each([
    [
      'a truncated 32-bit header',
      buildElf().subarray(0, 0x33),
      'the ELF header is truncated (expected a whole ELF file)',
    ],
    [
      'a truncated 64-bit header',
      buildElf().subarray(0, 0x3f),
      'the ELF header is truncated (expected a whole ELF file)',
    ],
    ['an unknown class', patched(4, 3), 'its ELF class is 3 (expected 1 for 32-bit or 2 for 64-bit)'],
    ['arm64', buildElf({ machine: 183 }), 'it is an ELF file for arm64 (expected a kernel for x86-64)'],
    ['RISC-V', buildElf({ machine: 243 }), 'it is an ELF file for RISC-V (expected a kernel for x86-64)'],
    [
      'an unknown machine',
      buildElf({ machine: 9999 }),
      'it is an ELF file for machine number 9999 (expected a kernel for x86-64)',
    ],
    [
      'a big-endian file',
      patched(5, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 22),
      'it is an ELF file for s390 (expected a kernel for x86-64)',
    ],
    [
      'a kernel module',
      buildElf({ type: 1 }),
      'it is a relocatable object or kernel module (expected a linked kernel)',
    ],
    ['a core dump', buildElf({ type: 4 }), 'it is a core dump (expected a kernel)'],
    ['an unknown type', buildElf({ type: 77 }), 'its ELF type is 77 (expected an executable)'],
    [
      'no program header',
      buildElf({ segments: [] }),
      'it has 0 program headers of 56 bytes (expected 1 to 256 of 56 bytes)',
    ],
    [
      'too many program headers',
      patched(0x38, 1, 1),
      'it has 257 program headers of 56 bytes (expected 1 to 256 of 56 bytes)',
    ],
    [
      'program headers of an odd size',
      patched(0x36, 32),
      'it has 1 program headers of 32 bytes (expected 1 to 256 of 56 bytes)',
    ],
    [
      'program headers beyond the end',
      patched(0x20, 0, 0x20),
      'it is truncated: the program headers are beyond its end (expected at least 8248 bytes, found 4352)',
    ],
    [
      'a segment beyond the end',
      buildElf().subarray(0, 0x1080),
      'it is truncated: it has 4224 bytes (expected at least 4352, the end of a segment)',
    ],
    [
      'a segment with more in the file than in memory',
      buildElf({ segments: [{ memoryBytes: 255 }] }),
      'a segment has 256 bytes in the file and 255 in memory (expected at most as many in the file as in memory)',
    ],
    [
      'a segment beyond all address spaces',
      buildElf({ segments: [{ paddr: 2 ** 52 - 256 }] }),
      'a segment is linked at physical address 0xfffffffffff00 (expected an address below 2^52)',
    ],
    [
      'only notes',
      buildElf({ segments: [], notes: buildNote('Xen', 18, u32Bytes(0)) }),
      'it has no segment to load (expected at least one PT_LOAD)',
    ],
    [
      'a program with an interpreter',
      buildElf({ segments: [{}, { type: 3 }] }),
      'it is a user-space program for Linux; pass a kernel, and put programs into its initrd',
    ],
    [
      'a static program',
      buildElf({ notes: buildNote('GNU', 1, u32Bytes(0, 3, 2, 0)) }),
      'it is a user-space program for Linux; pass a kernel, and put programs into its initrd',
    ],
  ])('%s', (_, bytes, message) => {
    expect(messageFor(bytes)).toBe(`Cannot load vmlinux: ${message}`);
  });
});

describe('physicalEntry', () => {
  const low = (entry: number) => parse({ entry, segments: [{ paddr: 0x20_0000, vaddr: 0x8020_0000 }] });

  test('takes a virtual entry to where its segment is loaded', () => {
    expect(physicalEntry(low(0x8020_0010))).toBe(0x20_0010);
  });

  test('leaves a physical entry as it is', () => {
    expect(physicalEntry(low(0x20_0010))).toBe(0x20_0010);
  });

  test('takes an entry in the higher half to the very byte', () => {
    const high = parse({
      entry: 0xffff_ffff_8010_0010n,
      segments: [{ paddr: 0x10_0000, vaddr: 0xffff_ffff_8010_0000n, memoryBytes: 0x5000 }],
    });
    expect(physicalEntry(high)).toBe(0x10_0010);
  });

  test('has no answer outside all segments', () => {
    expect(physicalEntry(low(0x1234))).toBeUndefined();
    expect(physicalEntry(low(0x20_0100))).toBeUndefined();
  });
});

test('elfLoads puts each segment at its physical address', () => {
  const loads = elfLoads(parse({ segments: [{ memoryBytes: 0x5000 }, { paddr: 0x20_0000, fileBytes: 7 }] }));
  expect(loads as object[]).toEqual([
    { name: 'kernel-segment-0', file: 'kernel', fileOffset: CONTENT_OFFSET, fileBytes: 256, address: 0x10_0000, memoryBytes: 0x5000, zeroes: [] },
    { name: 'kernel-segment-1', file: 'kernel', fileOffset: CONTENT_OFFSET, fileBytes: 7, address: 0x20_0000, memoryBytes: 7, zeroes: [] },
  ]); // prettier-ignore
});
