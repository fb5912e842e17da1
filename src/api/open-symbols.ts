/** Names of code addresses for who asks a running guest where it is. */
import { describeAddress } from '../boot/symbols.ts';
import { loadSymbols } from '../vmm/guest-symbols.ts';

/**
 * Reads a System.map, a copy of /proc/kallsyms or an ELF file, and returns what names an address: `default_idle+0x13`,
 * or undefined where the file has no code. Throws VoltError 'image' for a file without symbols.
 */
export function openSymbols(path: string): (address: bigint) => string | undefined {
  const table = loadSymbols(path);
  return (address) => describeAddress(table, address);
}
