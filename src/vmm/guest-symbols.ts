/** Names of a guest's code addresses, read from a file when the first one is needed. */
import type { BootProtocol } from '../boot/boot-plan.ts';
import { isElf, parseElfSymbols } from '../boot/elf-symbols.ts';
import { describeAddress, type SymbolTable } from '../boot/symbols.ts';
import { parseSystemMap } from '../boot/system-map.ts';
import { VoltError } from '../volt-error.ts';
import type { VmConfig } from '../config/config.ts';
import { openImage, openKernel } from './image-file.ts';

/** Reads a System.map or an ELF file. Throws VoltError 'image' for one without symbols of code. */
export function loadSymbols(path: string): SymbolTable {
  using file = openImage(path, '--symbols');
  const table = isElf(file) ? parseElfSymbols(file) : parseSystemMap(file);
  if (table) return table;
  throw new VoltError(
    'image',
    `Cannot use --symbols ${path}: it has no symbol table (expected an ELF file that was not stripped, or a System.map)`,
  );
}

/** A kernel's own symbol table; undefined where it is stripped, no ELF file, or cannot be read any more. */
function loadKernelSymbols(kernelPath: string | undefined): SymbolTable | undefined {
  try {
    using file = openKernel(kernelPath, 'the kernel');
    return parseElfSymbols(file);
  } catch {
    return undefined;
  }
}

/** Throws VoltError 'image' where the file cannot be opened. Does not read it. */
export function checkSymbolsPath(path: string, name: string): void {
  openImage(path, name)[Symbol.dispose]();
}

type SymbolConfig = Pick<VmConfig, 'symbolsPath' | 'kernelPath' | 'cmdline'>;

/**
 * A bzImage may move Linux to a random address (KASLR), where its symbols would be wrong; an ELF vmlinux
 * stays at the address that it was linked for.
 */
function mayMove({ cmdline }: SymbolConfig, protocol: BootProtocol): boolean {
  return protocol === 'bzimage' && !cmdline.split(/\s+/).includes('nokaslr');
}

export class GuestSymbols {
  readonly #load: () => SymbolTable | undefined;
  #table: SymbolTable | undefined;
  #loaded = false;

  /** `symbolsPath` wins over the kernel's own symbols. `warn` is called once with why it cannot be used. */
  constructor(config: SymbolConfig, protocol: BootProtocol, warn: (line: string) => void) {
    this.#load = () => {
      const { symbolsPath, kernelPath } = config;
      if (symbolsPath === undefined) return loadKernelSymbols(kernelPath);
      if (mayMove(config, protocol)) {
        warn(
          `Cannot use --symbols ${symbolsPath}: a bzImage may load Linux anywhere (expected nokaslr in --cmdline, or an ELF vmlinux)`,
        );
        return undefined;
      }
      try {
        return loadSymbols(symbolsPath);
      } catch (error) {
        warn((error as Error).message);
        return undefined;
      }
    };
  }

  /** `main+0x10`, or undefined for an address without a known symbol. */
  readonly describe = (address: bigint): string | undefined => {
    if (!this.#loaded) {
      this.#loaded = true;
      this.#table = this.#load();
    }
    return this.#table && describeAddress(this.#table, address);
  };
}
