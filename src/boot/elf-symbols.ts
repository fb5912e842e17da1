/**
 * The symbol table of an ELF file, as far as it names code. (System V gABI, chapter 4, "Sections" and "Symbol
 * Table".) Everything read from the file is checked against its size before use; a kernel's table is an aid, so
 * what is malformed in it is skipped, and a file without one is no error.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { viewOf } from '../binary/bytes.ts';
import { readAddress, readSections, SECTION_FLAG, SECTION_TYPE, type ElfSection } from './elf-sections.ts';
import { buildSymbolTable, type CodeRange, type SymbolEntry, type SymbolTable } from './symbols.ts';

const IDENT = { class: 4, data: 5, size: 16 } as const;
const CLASS_64 = 2;
const DATA_LITTLE = 1;

const SYMBOL = {
  32: { name: 0x00, value: 0x04, info: 0x0c, section: 0x0e, size: 0x10 },
  64: { name: 0x00, info: 0x04, section: 0x06, value: 0x08, size: 0x18 },
} as const;

const SYMBOL_TYPE = { none: 0, function: 2 } as const;
const BIND_LOCAL = 0;

/** A kernel with all drivers built in has 10 MiB of each. */
const MAX_TABLE_BYTES = 256 * 1024 * 1024;
const LONGEST_NAME = 512;

export function isElf(source: ByteSource): boolean {
  return source.bytes >= IDENT.size && viewOf(source.read(0, 4)).getUint32(0) === 0x7f45_4c46;
}

/** undefined for a file that is no little-endian ELF, or was stripped. */
export function parseElfSymbols(source: ByteSource): SymbolTable | undefined {
  if (!isElf(source)) return undefined;
  const ident = source.read(0, IDENT.size);
  const bits = ident[IDENT.class] === CLASS_64 ? 64 : 32;
  if (ident[IDENT.data] !== DATA_LITTLE) return undefined;
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
  bits: 32 | 64,
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

/** undefined for names that only an assembler needs, and for what cannot be one. */
function nameAt(names: Buffer, at: number): string | undefined {
  if (at >= names.length) return undefined;
  const end = names.indexOf(0, at);
  if (end <= at || end - at > LONGEST_NAME) return undefined;
  const name = names.toString('latin1', at, end);
  return name.startsWith('.L') ? undefined : name;
}

/** `end` is the last address, as in CodeRange; an empty section has none. */
function rangeOf({ address: start, bytes }: ElfSection): CodeRange {
  return { start, end: start + BigInt(bytes) - 1n };
}
