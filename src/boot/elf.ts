/**
 * Parses the parts of an ELF kernel that loading it needs: header, program headers, notes. (System V gABI,
 * chapters 4 and 5) All offsets are checked against the file's size before use.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { getAscii, hex, viewOf } from '../binary/bytes.ts';
import { alignUp } from '../machine/address.ts';
import type { VoltError } from '../volt-error.ts';
import { imageError, PHYSICAL_ADDRESS_END } from './boot-inputs.ts';
import { readSections } from './elf-sections.ts';
import {
  ELF_HEADER,
  ELF_MACHINE,
  ELF_TYPE,
  IDENT,
  IDENT_CLASS,
  IDENT_DATA_LITTLE,
  NOTE,
  PROGRAM_HEADER,
  readAddress,
  readWord,
  SECTION_FLAG,
  SECTION_TYPE,
  SEGMENT_TYPE,
  type ElfBits,
} from './elf.layout.ts';

export interface ElfSegment {
  readonly fileOffset: number;
  /** Up to 2^64 - 1: kernels are linked to the upper half. */
  readonly virtualAddress: bigint;
  readonly physicalAddress: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

export interface ElfNote {
  /** The note's name, which identifies who defines its types. */
  readonly owner: string;
  readonly type: number;
  readonly content: Uint8Array;
}

export interface ElfImage {
  readonly bits: ElfBits;
  readonly entry: bigint;
  /** PT_LOAD segments that occupy memory, in file order. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
  /** Memory that must be zero at entry according to the section headers, such as .bss. */
  readonly zeroed: readonly ElfRange[];
}

export interface ElfRange {
  readonly virtualAddress: bigint;
  readonly bytes: number;
}

/** e_machine of other architectures, for error messages. */
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

/** NT_GNU_ABI_TAG, which linkers put into user-space programs. */
const NOTE_GNU_ABI_TAG = 1;
const MAX_PROGRAM_HEADERS = 256;
const MAX_NOTE_BYTES = 64 * 1024;

/** Throws VoltError 'image' for anything but a complete x86 executable. */
export function parseElf(source: ByteSource): ElfImage {
  const fail = (found: string, expected: string) => imageError(source.name, found, { expected });
  if (source.bytes < ELF_HEADER[32].size) throw fail('the ELF header is truncated', 'a whole ELF file');
  const ident = source.read(0, IDENT.size);
  const bits =
    ident[IDENT.class] === IDENT_CLASS.bits64
      ? 64
      : ident[IDENT.class] === IDENT_CLASS.bits32
        ? 32
        : undefined;
  if (!bits) throw fail(`its ELF class is ${ident[IDENT.class]}`, '1 for 32-bit or 2 for 64-bit');
  if (source.bytes < ELF_HEADER[bits].size) throw fail('the ELF header is truncated', 'a whole ELF file');

  const header = viewOf(source.read(0, ELF_HEADER[bits].size));
  const machine = header.getUint16(ELF_HEADER[bits].machine, ident[IDENT.data] === IDENT_DATA_LITTLE);
  if (
    ident[IDENT.data] !== IDENT_DATA_LITTLE ||
    (machine !== ELF_MACHINE.x86_64 && machine !== ELF_MACHINE.i386)
  ) {
    throw fail(
      `it is an ELF file for ${OTHER_MACHINES[machine] ?? `machine number ${machine}`}`,
      'a kernel for x86-64',
    );
  }
  const type = header.getUint16(ELF_HEADER[bits].type, true);
  if (type === ELF_TYPE.relocatable)
    throw fail('it is a relocatable object or kernel module', 'a linked kernel');
  if (type === ELF_TYPE.core) throw fail('it is a core dump', 'a kernel');
  if (type !== ELF_TYPE.executable && type !== ELF_TYPE.shared)
    throw fail(`its ELF type is ${type}`, 'an executable');

  const programHeaders = readProgramHeaders(source, header, bits);
  if (programHeaders.some((ph) => ph.type === SEGMENT_TYPE.interpreter)) {
    throw userProgramError(source);
  }
  const notes = programHeaders
    .filter((ph) => ph.type === SEGMENT_TYPE.note)
    .flatMap((ph) => readNotes(source, ph));
  if (notes.some((note) => note.owner === 'GNU' && note.type === NOTE_GNU_ABI_TAG)) {
    throw userProgramError(source);
  }
  const segments = programHeaders.filter((ph) => ph.type === SEGMENT_TYPE.load && ph.memoryBytes > 0);
  if (segments.length === 0) throw fail('it has no segment to load', 'at least one PT_LOAD');
  for (const segment of segments) checkSegment(source, segment);
  const entry = readAddress(header, ELF_HEADER[bits].entry, bits);
  return { bits, entry, segments, notes, zeroed: zeroedMemory(source, bits) };
}

function userProgramError(source: ByteSource): VoltError {
  return imageError(source.name, 'it is a user-space program for Linux', {
    fix: 'pass a kernel, and put programs into its initrd',
  });
}

/** Address ranges of .bss and similar sections; not of .tbss, which occupies no memory. */
function zeroedMemory(source: ByteSource, bits: ElfBits): ElfRange[] {
  const { alloc, threadLocal } = SECTION_FLAG;
  return readSections(source, bits)
    .filter(({ type, flags }) => type === SECTION_TYPE.nobits && (flags & (alloc | threadLocal)) === alloc)
    .map(({ address, bytes }) => ({ virtualAddress: address, bytes }));
}

/**
 * Physical address of the entry point. e_entry is a physical address in some kernels and a virtual one in
 * others. undefined if it is in no segment.
 */
export function physicalEntry(image: ElfImage): number | undefined {
  const { entry, segments } = image;
  const isIn = (start: bigint, bytes: number) => entry >= start && entry < start + BigInt(bytes);
  if (segments.some((s) => isIn(BigInt(s.physicalAddress), s.memoryBytes))) return Number(entry);
  const segment = segments.find((s) => isIn(s.virtualAddress, s.memoryBytes));
  return segment && segment.physicalAddress + Number(entry - segment.virtualAddress);
}

/** Whether a physical address is in one of the segments. */
export function isInSegment(image: ElfImage, address: number): boolean {
  return image.segments.some(
    (s) => address >= s.physicalAddress && address < s.physicalAddress + s.memoryBytes,
  );
}

interface ProgramHeader extends ElfSegment {
  readonly type: number;
  readonly align: number;
}

function readProgramHeaders(source: ByteSource, header: DataView, bits: ElfBits): ProgramHeader[] {
  const layout = PROGRAM_HEADER[bits];
  const offset = readWord(header, ELF_HEADER[bits].phoff, bits);
  const entryBytes = header.getUint16(ELF_HEADER[bits].phentsize, true);
  const count = header.getUint16(ELF_HEADER[bits].phnum, true);
  if (count === 0 || count > MAX_PROGRAM_HEADERS || entryBytes !== layout.size) {
    throw imageError(source.name, `it has ${count} program headers of ${entryBytes} bytes`, {
      expected: `1 to ${MAX_PROGRAM_HEADERS} of ${layout.size} bytes`,
    });
  }
  if (offset + count * layout.size > source.bytes) {
    throw imageError(source.name, 'it is truncated: the program headers are beyond its end', {
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
    throw imageError(source.name, `it is truncated: it has ${source.bytes} bytes`, {
      expected: `at least ${fileOffset + fileBytes}, the end of a segment`,
    });
  }
  if (fileBytes > memoryBytes) {
    throw imageError(
      source.name,
      `a segment has ${fileBytes} bytes in the file and ${memoryBytes} in memory`,
      {
        expected: 'at most as many in the file as in memory',
      },
    );
  }
  if (physicalAddress + memoryBytes >= PHYSICAL_ADDRESS_END) {
    throw imageError(source.name, `a segment is linked at physical address ${hex(physicalAddress)}`, {
      expected: 'an address below 2^52',
    });
  }
}

/** Notes of one PT_NOTE segment, up to the first malformed one. (gABI, chapter 5, "Note Section") */
function readNotes(source: ByteSource, header: ProgramHeader): ElfNote[] {
  const { fileOffset, fileBytes } = header;
  if (fileBytes > MAX_NOTE_BYTES || fileOffset + fileBytes > source.bytes) return [];
  const bytes = source.read(fileOffset, fileBytes);
  const view = viewOf(bytes);
  const alignment = header.align === 8 ? 8 : 4;
  const notes: ElfNote[] = [];
  for (let at = 0; at + NOTE.size <= bytes.length;) {
    const nameBytes = view.getUint32(at + NOTE.nameBytes, true);
    const contentBytes = view.getUint32(at + NOTE.descriptorBytes, true);
    const contentAt = alignUp(at + NOTE.size + nameBytes, alignment);
    if (contentAt + contentBytes > bytes.length) break;
    notes.push({
      owner: getAscii(bytes, at + NOTE.size, Math.max(0, nameBytes - 1)),
      type: view.getUint32(at + NOTE.type, true),
      content: bytes.subarray(contentAt, contentAt + contentBytes),
    });
    at = alignUp(contentAt + contentBytes, alignment);
  }
  return notes;
}
