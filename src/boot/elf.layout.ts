/**
 * Structures of ELF files in both classes: offsets, sizes and codes. (System V gABI, chapters 4 and 5;
 * machine numbers: its e_machine registry)
 */
import { getU64 } from '../binary/bytes.ts';

export type ElfBits = 32 | 64;

export const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46] as const;

/** "ELF Identification" */
export const IDENT = { class: 4, data: 5, size: 16 } as const;
export const IDENT_CLASS = { bits32: 1, bits64: 2 } as const;
export const IDENT_DATA_LITTLE = 1;

/** "ELF Header" */
export const ELF_HEADER = {
  32: {
    type: 0x10,
    machine: 0x12,
    entry: 0x18,
    phoff: 0x1c,
    shoff: 0x20,
    phentsize: 0x2a,
    phnum: 0x2c,
    shentsize: 0x2e,
    shnum: 0x30,
    size: 0x34,
  },
  64: {
    type: 0x10,
    machine: 0x12,
    entry: 0x18,
    phoff: 0x20,
    shoff: 0x28,
    phentsize: 0x36,
    phnum: 0x38,
    shentsize: 0x3a,
    shnum: 0x3c,
    size: 0x40,
  },
} as const;
export const ELF_TYPE = { relocatable: 1, executable: 2, shared: 3, core: 4 } as const;
export const ELF_MACHINE = { i386: 3, x86_64: 62 } as const;

/** "Program Header" */
export const PROGRAM_HEADER = {
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
export const SEGMENT_TYPE = { load: 1, interpreter: 3, note: 4 } as const;

/** "Note Section": name, padding, descriptor and padding follow. */
export const NOTE = { nameBytes: 0x00, descriptorBytes: 0x04, type: 0x08, size: 0x0c } as const;

/** "Section Header" */
export const SECTION_HEADER = {
  32: { type: 0x04, flags: 0x08, addr: 0x0c, offset: 0x10, bytes: 0x14, link: 0x18, size: 0x28 },
  64: { type: 0x04, flags: 0x08, addr: 0x10, offset: 0x18, bytes: 0x20, link: 0x28, size: 0x40 },
} as const;
export const SECTION_TYPE = { symtab: 2, nobits: 8 } as const;
export const SECTION_FLAG = { alloc: 0x2, executable: 0x4, threadLocal: 0x400 } as const;

/** "Symbol Table" */
export const SYMBOL = {
  32: { name: 0x00, value: 0x04, info: 0x0c, section: 0x0e, size: 0x10 },
  64: { name: 0x00, info: 0x04, section: 0x06, value: 0x08, size: 0x18 },
} as const;
export const SYMBOL_TYPE = { none: 0, function: 2 } as const;
export const BIND_LOCAL = 0;

/** An offset or a size, below 2^53. */
export function readWord(view: DataView, offset: number, bits: ElfBits): number {
  return bits === 64 ? getU64(view, offset) : view.getUint32(offset, true);
}

/** A virtual address, up to 2^64 - 1. */
export function readAddress(view: DataView, offset: number, bits: ElfBits): bigint {
  return bits === 64 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true));
}
