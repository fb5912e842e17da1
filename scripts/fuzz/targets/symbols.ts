/** Symbol files: ELF files and System.map. */
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { viewOf } from '../../../src/binary/bytes.ts';
import { parseElfSymbols } from '../../../src/boot/elf-symbols.ts';
import { describeAddress, type SymbolTable } from '../../../src/boot/symbols.ts';
import { parseSystemMap } from '../../../src/boot/system-map.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { kindOf, type FuzzTarget } from '../target.ts';

const CODE = 0x10_0000;
const NAMES = '\0start\0main\0idle_loop\0';
const SECTIONS_AT = 0x40;
const SECTION_BYTES = 0x40;
const SYMBOLS_AT = SECTIONS_AT + 4 * SECTION_BYTES;
const SYMBOL_BYTES = 0x18;

/** A 64-bit ELF file that is nothing but sections: none, code, symbols, their names. */
function symbolElf(): Uint8Array {
  const starts = [1, 7, 12];
  const namesAt = SYMBOLS_AT + starts.length * SYMBOL_BYTES;
  const file = new Uint8Array(namesAt + NAMES.length);
  const view = viewOf(file);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint32(0x28, SECTIONS_AT, true);
  view.setUint16(0x3a, SECTION_BYTES, true);
  view.setUint16(0x3c, 4, true);
  const section = (
    index: number,
    type: number,
    flags: number,
    address: number,
    offset: number,
    bytes: number,
  ) => {
    const at = SECTIONS_AT + index * SECTION_BYTES;
    view.setUint32(at + 0x04, type, true);
    view.setUint32(at + 0x08, flags, true);
    view.setUint32(at + 0x10, address, true);
    view.setUint32(at + 0x18, offset, true);
    view.setUint32(at + 0x20, bytes, true);
    view.setUint32(at + 0x28, 3, true);
  };
  section(1, 1, 6, CODE, 0, 0x1000);
  section(2, 2, 0, 0, SYMBOLS_AT, starts.length * SYMBOL_BYTES);
  section(3, 3, 0, 0, namesAt, NAMES.length);
  starts.forEach((name, i) => {
    const at = SYMBOLS_AT + i * SYMBOL_BYTES;
    view.setUint32(at, name, true);
    view.setUint8(at + 4, i === 1 ? 0x12 : 0x02);
    view.setUint16(at + 6, 1, true);
    view.setUint32(at + 8, CODE + 0x100 * i, true);
  });
  file.set(Buffer.from(NAMES), namesAt);
  return file;
}

function checkTable(table: SymbolTable): string {
  if (table.names.length !== table.addresses.length) throw new Error('names and addresses differ in number');
  for (let i = 1; i < table.addresses.length; i++) {
    if (table.addresses[i - 1]! >= table.addresses[i]!)
      throw new Error(`address ${i} is not above the one before`);
  }
  const named = [0n, BigInt(CODE), BigInt(CODE + 0x123), 0xffff_ffff_8100_0000n, 2n ** 64n - 1n].map(
    (address) => describeAddress(table, address) !== undefined,
  );
  return `${Math.min(table.names.length, 9)} ${table.ranges.length} ${named}`;
}

export const symbolsTarget: FuzzTarget = {
  name: 'symbols-elf',
  what: 'symbol tables of ELF files',
  seeds: () => [symbolElf()],
  run: (input) => {
    const table = parseElfSymbols(bytesAsSource('fuzz', input));
    return table ? checkTable(table) : 'none';
  },
};

const MAP = [
  '0000000000000000 D fixed_percpu_data',
  'ffffffff81000000 T _text',
  'ffffffff81000100 t do_one',
  'ffffffff81000100 W weak',
  'ffffffff82000000 B _end',
  'ffffffffc0000000 t helper\t[module]',
].join('\n');

export const systemMapTarget: FuzzTarget = {
  name: 'symbols-map',
  what: 'System.map files',
  seeds: () => [Buffer.from(MAP)],
  words: ['\n', ' T _text', ' B _end', 'ffffffffffffffff', '0000000000000000', ' t ', '\r', '\0', 'e9'],
  run: (input) => {
    try {
      return checkTable(parseSystemMap(bytesAsSource('fuzz', input)));
    } catch (error) {
      if (error instanceof VoltError) return kindOf(error.message);
      throw error;
    }
  },
};
