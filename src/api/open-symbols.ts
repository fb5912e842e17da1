/** Symbols for code addresses of a running guest. */
import { describeAddress } from '../boot/symbols.ts';
import { loadSymbols } from '../vmm/guest-symbols.ts';

/**
 * Reads a System.map, a copy of /proc/kallsyms or an ELF file. Returns a function that names an address, such
 * as `default_idle+0x13`; undefined outside the code. Throws VoltError 'image' for a file without symbols.
 */
export function openSymbols(path: string): (address: bigint) => string | undefined {
  const table = loadSymbols(path);
  return (address) => describeAddress(table, address);
}
