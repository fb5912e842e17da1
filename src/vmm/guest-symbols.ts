/** Names of a guest's code addresses, read from a file the first time somebody asks, and never before. */
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

/** A kernel's own symbol table; undefined for one that was stripped, that is no ELF file, or that is gone. */
function loadKernelSymbols(kernelPath: string | undefined): SymbolTable | undefined {
  try {
    using file = openKernel(kernelPath, 'the kernel');
    return parseElfSymbols(file);
  } catch {
    return undefined;
  }
}

/** Throws VoltError 'image' when there is no such file. Does not read it. */
export function checkSymbolsPath(path: string, name: string): void {
  openImage(path, name)[Symbol.dispose]();
}

type SymbolConfig = Pick<VmConfig, 'symbolsPath' | 'kernelPath' | 'cmdline'>;

/**
 * A bzImage moves Linux to a random address (KASLR) where the kernel was built to, so that names would be
 * wrong by chance; an ELF vmlinux stays where it was linked to.
 */
function mayMove({ cmdline }: SymbolConfig, protocol: BootProtocol): boolean {
  return protocol === 'bzimage' && !cmdline.split(/\s+/).includes('nokaslr');
}

export class GuestSymbols {
  readonly #load: () => SymbolTable | undefined;
  #table: SymbolTable | undefined;
  #loaded = false;

  /** `symbolsPath` wins over what the kernel knows of itself. `warn` hears why it cannot be used, once. */
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

  /** `main+0x10`, or undefined for an address that no symbol is known for. */
  readonly describe = (address: bigint): string | undefined => {
    if (!this.#loaded) {
      this.#loaded = true;
      this.#table = this.#load();
    }
    return this.#table && describeAddress(this.#table, address);
  };
}
