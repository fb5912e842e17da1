/**
 * The section header table of an ELF file. (System V gABI, chapter 4, "Sections") Loading a kernel does not
 * need it, so one that is absent or malformed counts as empty. All offsets are checked against the file's
 * size before use.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { viewOf } from '../binary/bytes.ts';
import { ELF_HEADER, readAddress, readWord, SECTION_HEADER, type ElfBits } from './elf.layout.ts';

/** Section numbers from here are reserved. A file with more sections has e_shnum 0; no kernel has so many. */
const MAX_SECTIONS = 0xff00;

export interface ElfSection {
  readonly type: number;
  readonly flags: number;
  readonly address: bigint;
  readonly offset: number;
  readonly bytes: number;
  /** Number of an associated section: for a symbol table, its string table. */
  readonly link: number;
}

/** All sections of a little-endian ELF file, indexed by section number. */
export function readSections(source: ByteSource, bits: ElfBits): ElfSection[] {
  if (source.bytes < ELF_HEADER[bits].size) return [];
  const header = viewOf(source.read(0, ELF_HEADER[bits].size));
  const layout = SECTION_HEADER[bits];
  const offset = readWord(header, ELF_HEADER[bits].shoff, bits);
  const count = header.getUint16(ELF_HEADER[bits].shnum, true);
  const entryBytes = header.getUint16(ELF_HEADER[bits].shentsize, true);
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
