/**
 * Parses Linux's System.map, the output of nm(1) from the kernel's build. Its lines look like
 * "ffffffff81000000 T _text". /proc/kallsyms has the same format, with a module's name at the end of some
 * lines.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { imageError } from './boot-inputs.ts';
import { buildSymbolTable, type CodeRange, type SymbolEntry, type SymbolTable } from './symbols.ts';

/** Ten times the size for a kernel with all drivers built in. */
const MAX_BYTES = 128 * 1024 * 1024;
const LINE = /^([0-9a-f]{8,16}) ([A-Za-z]) (\S+)/;
/** Symbol types of code in nm(1), ranked: global before weak before local. */
const CODE_TYPES = 'TWtw';

const expected = 'a System.map or an ELF file with a symbol table';

/** Reads the whole file. Throws VoltError 'image' if it has no code symbols. */
export function parseSystemMap(source: ByteSource): SymbolTable {
  if (source.bytes > MAX_BYTES) {
    throw imageError(source.name, `it has ${source.bytes} bytes`, {
      expected: `${expected} of at most ${MAX_BYTES} bytes`,
    });
  }
  const text = Buffer.from(source.read(0, source.bytes)).toString('latin1');
  const entries: SymbolEntry[] = [];
  let first: bigint | undefined;
  let last: bigint | undefined;
  for (let from = 0, at = 0; from < text.length; from = at + 1) {
    at = text.indexOf('\n', from);
    if (at < 0) at = text.length;
    const match = LINE.exec(text.slice(from, at));
    if (!match) continue;
    const [address, type, name] = [BigInt(`0x${match[1]}`), match[2]!, match[3]!];
    if (name === '_text') first = address;
    if (name === '_end') last = address;
    const rank = CODE_TYPES.indexOf(type);
    if (rank >= 0 && address !== 0n) entries.push({ address, name, rank });
  }
  if (entries.length === 0) {
    throw imageError(source.name, 'it has no code symbols', {
      expected: `${expected}; /proc/kallsyms shows addresses to root only`,
    });
  }
  return buildSymbolTable(source.name, entries, [rangeOf(entries, first, last)]);
}

/** The kernel extends from _text to _end; without these symbols, from the first symbol to the last. */
function rangeOf(
  entries: readonly SymbolEntry[],
  first: bigint | undefined,
  last: bigint | undefined,
): CodeRange {
  let [start, end] = [entries[0]!.address, entries[0]!.address];
  for (const { address } of entries) {
    if (address < start) start = address;
    if (address > end) end = address;
  }
  return { start: first ?? start, end: last ?? end };
}
