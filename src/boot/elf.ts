/**
 * ELF headers, program headers and notes, as far as loading a kernel needs them. (System V gABI, chapters 4 and
 * 5.) Everything read from the file is checked against its size before use.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { getAscii, hex, viewOf } from '../binary/bytes.ts';
import { alignUp } from '../machine/address.ts';
import { imageError } from './boot-inputs.ts';
import { readAddress, readSections, readWord, SECTION_FLAG, SECTION_TYPE } from './elf-sections.ts';

export interface ElfSegment {
  readonly fileOffset: number;
  /** Up to 2^64: kernels are linked into the top half. */
  readonly virtualAddress: bigint;
  readonly physicalAddress: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly content: Uint8Array;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  readonly entry: bigint;
  /** PT_LOAD with something in memory, in file order. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
  /** Memory that is zero when the kernel starts by the account of its sections, such as .bss. */
  readonly zeroed: readonly ElfRange[];
}

export interface ElfRange {
  readonly virtualAddress: bigint;
  readonly bytes: number;
}

const IDENT = { class: 4, data: 5 } as const;
const CLASS_64 = 2;
const CLASS_32 = 1;
const DATA_LITTLE = 1;

const HEADER = {
  32: { type: 0x10, machine: 0x12, entry: 0x18, phoff: 0x1c, phentsize: 0x2a, phnum: 0x2c, size: 0x34 },
  64: { type: 0x10, machine: 0x12, entry: 0x18, phoff: 0x20, phentsize: 0x36, phnum: 0x38, size: 0x40 },
} as const;

const PROGRAM_HEADER = {
  32: {
    type: 0x00,
    offset: 0x04,
    vaddr: 0x08,
    paddr: 0x0c,
    filesz: 0x10,
    memsz: 0x14,
    align: 0x1c,
    size: 0x20,
  },
  64: {
    type: 0x00,
    offset: 0x08,
    vaddr: 0x10,
    paddr: 0x18,
    filesz: 0x20,
    memsz: 0x28,
    align: 0x30,
    size: 0x38,
  },
} as const;

const TYPE = { relocatable: 1, executable: 2, shared: 3, core: 4 } as const;
const SEGMENT_TYPE = { load: 1, interpreter: 3, note: 4 } as const;
const MACHINE_386 = 3;
const MACHINE_X86_64 = 62;

const OTHER_MACHINES: Readonly<Record<number, string>> = {
  2: 'SPARC',
  8: 'MIPS',
  20: 'PowerPC',
  21: 'PowerPC64',
  22: 's390',
  40: '32-bit Arm',
  183: 'arm64',
  243: 'RISC-V',
  258: 'LoongArch',
};

const NOTE_GNU_ABI_TAG = 1;
const MAX_PROGRAM_HEADERS = 256;
const MAX_NOTE_BYTES = 64 * 1024;

/** Parses a kernel's ELF headers. Throws VoltError for anything that is not a whole x86 executable. */
export function parseElf(source: ByteSource): ElfImage {
  const fail = (found: string, expected: string) => imageError(source.name, found, { expected });
  if (source.bytes < HEADER[32].size) throw fail('the ELF header is truncated', 'a whole ELF file');
  const ident = source.read(0, 16);
  const bits = ident[IDENT.class] === CLASS_64 ? 64 : ident[IDENT.class] === CLASS_32 ? 32 : undefined;
  if (!bits) throw fail(`its ELF class is ${ident[IDENT.class]}`, '1 for 32-bit or 2 for 64-bit');
  if (source.bytes < HEADER[bits].size) throw fail('the ELF header is truncated', 'a whole ELF file');

  const header = viewOf(source.read(0, HEADER[bits].size));
  const machine = header.getUint16(HEADER[bits].machine, ident[IDENT.data] === DATA_LITTLE);
  if (ident[IDENT.data] !== DATA_LITTLE || (machine !== MACHINE_X86_64 && machine !== MACHINE_386)) {
    throw fail(
      `it is an ELF file for ${OTHER_MACHINES[machine] ?? `machine number ${machine}`}`,
      'a kernel for x86-64',
    );
  }
  const type = header.getUint16(HEADER[bits].type, true);
  if (type === TYPE.relocatable) throw fail('it is a relocatable object or kernel module', 'a linked kernel');
  if (type === TYPE.core) throw fail('it is a core dump', 'a kernel');
  if (type !== TYPE.executable && type !== TYPE.shared)
    throw fail(`its ELF type is ${type}`, 'an executable');

  const programHeaders = readProgramHeaders(source, header, bits);
  if (programHeaders.some((ph) => ph.type === SEGMENT_TYPE.interpreter)) {
    throw fail(
      'it is a program for Linux user space',
      'a kernel; programs run inside the guest, from its initrd',
    );
  }
  const notes = programHeaders
    .filter((ph) => ph.type === SEGMENT_TYPE.note)
    .flatMap((ph) => readNotes(source, ph));
  if (notes.some((note) => note.owner === 'GNU' && note.type === NOTE_GNU_ABI_TAG)) {
    throw fail(
      'it is a program for Linux user space',
      'a kernel; programs run inside the guest, from its initrd',
    );
  }
  const segments = programHeaders.filter((ph) => ph.type === SEGMENT_TYPE.load && ph.memoryBytes > 0);
  if (segments.length === 0) throw fail('it has no segment to load', 'at least one PT_LOAD');
  for (const segment of segments) checkSegment(source, segment);
  const entry = readAddress(header, HEADER[bits].entry, bits);
  return { bits, entry, segments, notes, zeroed: zeroedMemory(source, bits) };
}

function zeroedMemory(source: ByteSource, bits: 32 | 64): ElfRange[] {
  const { alloc, threadLocal } = SECTION_FLAG;
  return readSections(source, bits)
    .filter(({ type, flags }) => type === SECTION_TYPE.nobits && (flags & (alloc | threadLocal)) === alloc)
    .map(({ address, bytes }) => ({ virtualAddress: address, bytes }));
}

/**
 * The physical address of the entry point, which is physical already in some kernels and virtual in others.
 * undefined when it is in no segment.
 */
export function physicalEntry(image: ElfImage): number | undefined {
  const { entry, segments } = image;
  const isIn = (start: bigint, bytes: number) => entry >= start && entry < start + BigInt(bytes);
  if (segments.some((s) => isIn(BigInt(s.physicalAddress), s.memoryBytes))) return Number(entry);
  const segment = segments.find((s) => isIn(s.virtualAddress, s.memoryBytes));
  return segment && segment.physicalAddress + Number(entry - segment.virtualAddress);
}

/** Whether a physical address lies in one of the segments. */
export function isInSegment(image: ElfImage, address: number): boolean {
  return image.segments.some(
    (s) => address >= s.physicalAddress && address < s.physicalAddress + s.memoryBytes,
  );
}

interface ProgramHeader extends ElfSegment {
  readonly type: number;
  readonly align: number;
}

function readProgramHeaders(source: ByteSource, header: DataView, bits: 32 | 64): ProgramHeader[] {
  const layout = PROGRAM_HEADER[bits];
  const offset = readWord(header, HEADER[bits].phoff, bits);
  const entryBytes = header.getUint16(HEADER[bits].phentsize, true);
  const count = header.getUint16(HEADER[bits].phnum, true);
  if (count === 0 || count > MAX_PROGRAM_HEADERS || entryBytes !== layout.size) {
    throw imageError(source.name, `it has ${count} program headers of ${entryBytes} bytes`, {
      expected: `1 to ${MAX_PROGRAM_HEADERS} of ${layout.size} bytes`,
    });
  }
  if (offset + count * layout.size > source.bytes) {
    throw imageError(source.name, 'it is truncated: the program headers lie beyond its end', {
      expected: `at least ${offset + count * layout.size} bytes, found ${source.bytes}`,
    });
  }
  const table = viewOf(source.read(offset, count * layout.size));
  return Array.from({ length: count }, (_, i) => {
    const at = i * layout.size;
    return {
      type: table.getUint32(at + layout.type, true),
      fileOffset: readWord(table, at + layout.offset, bits),
      virtualAddress: readAddress(table, at + layout.vaddr, bits),
      physicalAddress: readWord(table, at + layout.paddr, bits),
      fileBytes: readWord(table, at + layout.filesz, bits),
      memoryBytes: readWord(table, at + layout.memsz, bits),
      align: readWord(table, at + layout.align, bits),
    };
  });
}

function checkSegment(source: ByteSource, segment: ElfSegment): void {
  const { fileOffset, fileBytes, memoryBytes, physicalAddress } = segment;
  if (fileOffset + fileBytes > source.bytes) {
    throw imageError(source.name, `it is truncated: a segment ends at ${fileOffset + fileBytes}`, {
      expected: `the whole file, but it has ${source.bytes} bytes`,
    });
  }
  if (fileBytes > memoryBytes) {
    throw imageError(
      source.name,
      `a segment has ${fileBytes} bytes in the file and ${memoryBytes} in memory`,
      {
        expected: 'no more in the file than in memory',
      },
    );
  }
  if (physicalAddress + memoryBytes >= 2 ** 52) {
    throw imageError(source.name, `a segment is linked at physical address ${hex(physicalAddress)}`, {
      expected: 'an address below 2^52',
    });
  }
}

/** Notes of one PT_NOTE; a malformed rest is ignored, for notes are hints. (gABI chapter 5, "Note Section") */
function readNotes(source: ByteSource, header: ProgramHeader): ElfNote[] {
  const { fileOffset, fileBytes } = header;
  if (fileBytes > MAX_NOTE_BYTES || fileOffset + fileBytes > source.bytes) return [];
  const bytes = source.read(fileOffset, fileBytes);
  const view = viewOf(bytes);
  const alignment = header.align === 8 ? 8 : 4;
  const notes: ElfNote[] = [];
  for (let at = 0; at + 12 <= bytes.length;) {
    const ownerBytes = view.getUint32(at, true);
    const contentBytes = view.getUint32(at + 4, true);
    const contentAt = alignUp(at + 12 + ownerBytes, alignment);
    if (contentAt + contentBytes > bytes.length) break;
    notes.push({
      owner: getAscii(bytes, at + 12, Math.max(0, ownerBytes - 1)),
      type: view.getUint32(at + 8, true),
      content: bytes.subarray(contentAt, contentAt + contentBytes),
    });
    at = alignUp(contentAt + contentBytes, alignment);
  }
  return notes;
}
