/**
 * Code symbols from the symbol table of an ELF file. (System V gABI, chapter 4, "Sections" and "Symbol
 * Table") The table only serves diagnosis, so malformed entries are skipped, and a file without one is no
 * error. All offsets are checked against the file's size before use.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { viewOf } from '../binary/bytes.ts';
import { readSections, type ElfSection } from './elf-sections.ts';
import {
  BIND_LOCAL,
  ELF_MAGIC,
  IDENT,
  IDENT_CLASS,
  IDENT_DATA_LITTLE,
  readAddress,
  SECTION_FLAG,
  SECTION_TYPE,
  SYMBOL,
  SYMBOL_TYPE,
  type ElfBits,
} from './elf.layout.ts';
import { buildSymbolTable, type CodeRange, type SymbolEntry, type SymbolTable } from './symbols.ts';

/**
 * Limit of the symbol table and of the string table: a kernel with all drivers built in has 10 MiB of each.
 */
const MAX_TABLE_BYTES = 256 * 1024 * 1024;
const LONGEST_NAME = 512;

export function isElf(source: ByteSource): boolean {
  const magic = source.read(0, Math.min(source.bytes, ELF_MAGIC.length));
  return source.bytes >= IDENT.size && ELF_MAGIC.every((byte, i) => magic[i] === byte);
}

/** undefined for a file that is not a little-endian ELF file, or has no symbols. */
export function parseElfSymbols(source: ByteSource): SymbolTable | undefined {
  if (!isElf(source)) return undefined;
  const ident = source.read(0, IDENT.size);
  const bits = ident[IDENT.class] === IDENT_CLASS.bits64 ? 64 : 32;
  if (ident[IDENT.data] !== IDENT_DATA_LITTLE) return undefined;
  const sections = readSections(source, bits);
  const symtab = sections.find(({ type }) => type === SECTION_TYPE.symtab);
  const strtab = symtab && sections[symtab.link];
  if (!symtab || !strtab || !isReadable(source, symtab) || !isReadable(source, strtab)) return undefined;
  const entries = readSymbols(source, bits, sections, { symtab, strtab });
  if (entries.length === 0) return undefined;
  return buildSymbolTable(source.name, entries, sections.filter(isExecutable).map(rangeOf));
}

function isExecutable({ flags }: ElfSection): boolean {
  return (flags & SECTION_FLAG.executable) !== 0;
}

function isReadable(source: ByteSource, { offset, bytes }: ElfSection): boolean {
  return bytes <= MAX_TABLE_BYTES && offset + bytes <= source.bytes;
}

function readSymbols(
  source: ByteSource,
  bits: ElfBits,
  sections: readonly ElfSection[],
  { symtab, strtab }: { readonly symtab: ElfSection; readonly strtab: ElfSection },
): SymbolEntry[] {
  const layout = SYMBOL[bits];
  const names = Buffer.from(source.read(strtab.offset, strtab.bytes));
  const table = viewOf(source.read(symtab.offset, symtab.bytes));
  const entries: SymbolEntry[] = [];
  for (let at = 0; at + layout.size <= symtab.bytes; at += layout.size) {
    const section = sections[table.getUint16(at + layout.section, true)];
    if (!section || !isExecutable(section)) continue;
    const info = table.getUint8(at + layout.info);
    const type = info & 0xf;
    if (type !== SYMBOL_TYPE.none && type !== SYMBOL_TYPE.function) continue;
    const name = nameAt(names, table.getUint32(at + layout.name, true));
    if (name === undefined) continue;
    const local = info >> 4 === BIND_LOCAL;
    const rank = (type === SYMBOL_TYPE.function ? 0 : 2) + (local ? 1 : 0);
    entries.push({ address: readAddress(table, at + layout.value, bits), name, rank });
  }
  return entries;
}

/** undefined for an assembler-local name (.L…), and for an invalid one. */
function nameAt(names: Buffer, at: number): string | undefined {
  if (at >= names.length) return undefined;
  const end = names.indexOf(0, at);
  if (end <= at || end - at > LONGEST_NAME) return undefined;
  const name = names.toString('latin1', at, end);
  return name.startsWith('.L') ? undefined : name;
}

/** `end` is inclusive, as in CodeRange, so the range of an empty section contains no address. */
function rangeOf({ address: start, bytes }: ElfSection): CodeRange {
  return { start, end: start + BigInt(bytes) - 1n };
}
