/**
 * The section table of an ELF file. (System V gABI, chapter 4, "Sections") Loading a kernel does not need it, so one
 * that is absent or malformed is as good as empty. Everything read is checked against the file's size before use.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { getU64, viewOf } from '../binary/bytes.ts';

const HEADER = {
  32: { shoff: 0x20, shentsize: 0x2e, shnum: 0x30, size: 0x34 },
  64: { shoff: 0x28, shentsize: 0x3a, shnum: 0x3c, size: 0x40 },
} as const;

const SECTION = {
  32: { type: 0x04, flags: 0x08, addr: 0x0c, offset: 0x10, bytes: 0x14, link: 0x18, size: 0x28 },
  64: { type: 0x04, flags: 0x08, addr: 0x10, offset: 0x18, bytes: 0x20, link: 0x28, size: 0x40 },
} as const;

export const SECTION_TYPE = { symtab: 2, nobits: 8 } as const;
export const SECTION_FLAG = { alloc: 0x2, executable: 0x4, threadLocal: 0x400 } as const;

/** The table's offset is 0 in a file with more sections than 16 bits hold; no kernel has that many. */
const MAX_SECTIONS = 0xff00;

export interface ElfSection {
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  readonly offset: number;
  readonly bytes: number;
  readonly link: number;
}

/** All sections of a little-endian ELF file of this class, by their numbers. */
export function readSections(source: ByteSource, bits: 32 | 64): ElfSection[] {
  if (source.bytes < HEADER[bits].size) return [];
  const header = viewOf(source.read(0, HEADER[bits].size));
  const layout = SECTION[bits];
  const offset = readWord(header, HEADER[bits].shoff, bits);
  const count = header.getUint16(HEADER[bits].shnum, true);
  const entryBytes = header.getUint16(HEADER[bits].shentsize, true);
  if (offset === 0 || count > MAX_SECTIONS || entryBytes !== layout.size) return [];
  if (offset + count * layout.size > source.bytes) return [];
  const table = viewOf(source.read(offset, count * layout.size));
  return Array.from({ length: count }, (_, i) => {
    const at = i * layout.size;
    return {
      type: table.getUint32(at + layout.type, true),
      flags: table.getUint32(at + layout.flags, true),
      address: readAddress(table, at + layout.addr, bits),
      offset: readWord(table, at + layout.offset, bits),
      bytes: readWord(table, at + layout.bytes, bits),
      link: table.getUint32(at + layout.link, true),
    };
  });
}

export function readWord(view: DataView, offset: number, bits: 32 | 64): number {
  return bits === 64 ? getU64(view, offset) : view.getUint32(offset, true);
}

export function readAddress(view: DataView, offset: number, bits: 32 | 64): bigint {
  return bits === 64 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true));
}
