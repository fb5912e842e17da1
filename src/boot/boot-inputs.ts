/**
 * Inputs of every boot protocol, and what all protocols share: command line, initrd, checks of what is
 * loaded.
 */
import type { ByteSource } from '../binary/byte-source.ts';
import { hex } from '../binary/bytes.ts';
import { MIB, PAGE_BYTES, alignDown, alignUp, guestAddress, type GuestAddress } from '../machine/address.ts';
import { EBDA_START, LAYOUT, type RamRange } from '../machine/layout.ts';
import { VoltError } from '../volt-error.ts';
import type { FileLoad, MemoryWrite } from './boot-plan.ts';

export interface BootInputs {
  readonly kernel: ByteSource;
  readonly initrd: ByteSource | undefined;
  readonly cmdline: string;
  /** Guest RAM, ascending. */
  readonly ranges: readonly RamRange[];
  /** Guest address of the ACPI RSDP; undefined without ACPI. */
  readonly rsdp?: GuestAddress;
}

/** An ELF kernel, unlike a bzImage, does not state the highest address of its initrd. Linux accepts 2 GiB. */
export const ELF_INITRD_END_LIMIT = 0x8000_0000;

/** Physical addresses of x86 have at most 52 bits; larger ones in a file are errors. (Intel SDM 3A §4.1.4) */
export const PHYSICAL_ADDRESS_END = 2 ** 52;

/** End of the RAM below the MMIO hole, where kernel and initrd are loaded. */
export function lowMemoryEnd(inputs: BootInputs): number {
  const low = inputs.ranges[0];
  return low ? low.address + low.bytes : 0;
}

/** The NUL-terminated command line. `limit` is the kernel's maximum length without the NUL. */
export function commandLineWrite(cmdline: string, limit: number): MemoryWrite {
  const bytes = Buffer.from(`${cmdline}\0`, 'utf8');
  const longest = Math.min(limit, LAYOUT.commandLine.bytes - 1);
  if (bytes.length - 1 > longest) {
    throw new VoltError(
      'usage',
      `Cannot pass --cmdline: it has ${bytes.length - 1} bytes (expected at most ${longest} for this kernel)`,
    );
  }
  if (cmdline.includes('\0')) {
    throw new VoltError('usage', 'Cannot pass --cmdline: it contains a NUL character; remove it');
  }
  return { name: 'command-line', address: LAYOUT.commandLine.address, bytes: new Uint8Array(bytes) };
}

/**
 * Places the initrd page-aligned at the end of low RAM, but below `endLimit`, and above everything in
 * `loads`. undefined without an initrd.
 */
export function placeInitrd(
  inputs: BootInputs,
  loads: readonly FileLoad[],
  endLimit: number,
): FileLoad | undefined {
  return placeBehind(inputs, loads, endLimit)?.last;
}

/**
 * Places the initrd as the module of a Multiboot kernel: page-aligned right behind everything in `loads`, where
 * GRUB and QEMU place modules. seL4 uses the memory behind its last module. undefined without an initrd.
 */
export function placeModule(inputs: BootInputs, loads: readonly FileLoad[]): FileLoad | undefined {
  return placeBehind(inputs, loads, LAYOUT.mmioHole.address)?.first;
}

/** The lowest and the highest place for the initrd in RAM behind `loads` and below `endLimit`. */
function placeBehind(inputs: BootInputs, loads: readonly FileLoad[], endLimit: number) {
  const { initrd } = inputs;
  if (!initrd) return undefined;
  const end = Math.min(lowMemoryEnd(inputs), endLimit);
  const last = alignDown(end - initrd.bytes, PAGE_BYTES);
  const kernelEnd = Math.max(LAYOUT.kernel.address, ...loads.map((load) => load.address + load.memoryBytes));
  const first = alignUp(kernelEnd, PAGE_BYTES);
  if (last < first) {
    throw noSpaceError(inputs, initrd.name, `initrd of ${initrd.bytes} bytes`, {
      needed: kernelEnd + initrd.bytes + PAGE_BYTES,
      endLimit: Math.min(endLimit, LAYOUT.mmioHole.address),
    });
  }
  const loadAt = (address: number): FileLoad => ({
    name: 'initrd',
    file: 'initrd',
    fileOffset: 0,
    fileBytes: initrd.bytes,
    address: guestAddress(address),
    memoryBytes: initrd.bytes,
  });
  return { first: loadAt(first), last: loadAt(last) };
}

/**
 * Throws VoltError 'image' unless each load is in low RAM and overlaps neither other loads nor Volt's
 * structures.
 */
export function checkLoads(
  inputs: BootInputs,
  loads: readonly FileLoad[],
  writes: readonly MemoryWrite[],
): void {
  const end = lowMemoryEnd(inputs);
  for (const load of loads) {
    const loadEnd = load.address + load.memoryBytes;
    if (loadEnd > end) {
      throw noSpaceError(inputs, inputs.kernel.name, `${load.name} up to ${hex(loadEnd)}`, {
        needed: loadEnd,
        endLimit: LAYOUT.mmioHole.address,
      });
    }
    if (load.address < LAYOUT.kernel.address && loadEnd > EBDA_START) {
      throw imageError(
        inputs.kernel.name,
        `its ${load.name} at ${hex(load.address)} covers the firmware area`,
        {
          expected: `segments below ${hex(EBDA_START)} or from 1 MiB`,
        },
      );
    }
  }
  const claims = [
    ...loads.map((load) => ({ name: load.name, start: load.address, end: load.address + load.memoryBytes })),
    ...writes.map(({ name, address, bytes }) => ({ name, start: address, end: address + bytes.length })),
  ].sort((a, b) => a.start - b.start);
  for (let i = 1; i < claims.length; i++) {
    const [before, after] = [claims[i - 1], claims[i]];
    if (before && after && before.end > after.start) {
      throw imageError(
        inputs.kernel.name,
        `its ${before.name} and ${after.name} overlap at ${hex(after.start)}`,
        {
          expected: 'disjoint memory ranges',
        },
      );
    }
  }
}

/** `needed` is the end address of what would be loaded; no amount of RAM helps if it is above `endLimit`. */
function noSpaceError(
  inputs: BootInputs,
  name: string,
  what: string,
  { needed, endLimit }: { readonly needed: number; readonly endLimit: number },
): VoltError {
  if (needed > endLimit) {
    return imageError(name, `${what} does not fit below ${hex(endLimit)}`, {
      fix: 'use a smaller file, because more RAM does not help',
    });
  }
  const found = `${what} does not fit into RAM, which ends at ${hex(lowMemoryEnd(inputs))}`;
  return imageError(name, found, { fix: `use --memory ${Math.ceil(needed / MIB)}M or more` });
}

/** "Cannot load <file>: <found> (expected <expected>)", or "Cannot load <file>: <found>; <fix>" */
export function imageError(
  name: string,
  found: string,
  advice: { readonly expected: string } | { readonly fix: string },
): VoltError {
  const end = 'fix' in advice ? `; ${advice.fix}` : ` (expected ${advice.expected})`;
  return new VoltError('image', `Cannot load ${name}: ${found}${end}`);
}
