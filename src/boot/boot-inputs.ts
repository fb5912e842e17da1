/** What every boot protocol is given, and the checks that all of them share. */
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
  readonly ranges: readonly RamRange[];
  /** Guest address of the ACPI RSDP, where there is one. */
  readonly rsdp?: GuestAddress;
}

/** An ELF kernel, unlike a bzImage, does not say how high its initrd may lie; Linux takes it anywhere below 2 GiB. */
export const ELF_INITRD_CEILING = 0x8000_0000;

/** End of the RAM below the MMIO hole: kernels and initrds go there. */
export function lowMemoryEnd(inputs: BootInputs): number {
  const low = inputs.ranges[0];
  return low ? low.address + low.bytes : 0;
}

/** The command line with its NUL. `limit` is the longest the kernel takes, without the NUL. */
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
    throw new VoltError('usage', 'Cannot pass --cmdline: it has a NUL character (expected text without one)');
  }
  return { name: 'command-line', address: LAYOUT.commandLine.address, bytes: new Uint8Array(bytes) };
}

/**
 * Where the initrd goes: as high as `ceiling` and low memory allow, page-aligned, above everything in `loads`.
 * undefined when there is no initrd.
 */
export function placeInitrd(
  inputs: BootInputs,
  loads: readonly FileLoad[],
  ceiling: number,
): FileLoad | undefined {
  const { initrd } = inputs;
  if (!initrd) return undefined;
  const end = Math.min(lowMemoryEnd(inputs), ceiling);
  const start = alignDown(end - initrd.bytes, PAGE_BYTES);
  const kernelEnd = Math.max(LAYOUT.kernel.address, ...loads.map((load) => load.address + load.memoryBytes));
  if (start < alignUp(kernelEnd, PAGE_BYTES)) {
    throw doesNotFit(inputs, initrd.name, `initrd of ${initrd.bytes} bytes`, {
      needed: kernelEnd + initrd.bytes + PAGE_BYTES,
      ceiling: Math.min(ceiling, LAYOUT.mmioHole.address),
    });
  }
  return {
    name: 'initrd',
    file: 'initrd',
    fileOffset: 0,
    fileBytes: initrd.bytes,
    address: guestAddress(start),
    memoryBytes: initrd.bytes,
  };
}

/** Fails unless each load lies in low RAM, clear of the structures below 1 MiB and of the other loads. */
export function checkLoads(
  inputs: BootInputs,
  loads: readonly FileLoad[],
  writes: readonly MemoryWrite[],
): void {
  const end = lowMemoryEnd(inputs);
  for (const load of loads) {
    const loadEnd = load.address + load.memoryBytes;
    if (loadEnd > end) {
      throw doesNotFit(inputs, inputs.kernel.name, `${load.name} up to ${hex(loadEnd)}`, {
        needed: loadEnd,
        ceiling: LAYOUT.mmioHole.address,
      });
    }
    if (load.address < LAYOUT.kernel.address && loadEnd > EBDA_START) {
      throw imageError(
        inputs.kernel.name,
        `its ${load.name} at ${hex(load.address)} covers the firmware area`,
        {
          expected: 'segments below 0x9fc00 or from 1 MiB',
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
          expected: 'memory ranges apart from each other',
        },
      );
    }
  }
}

/** `needed` is the end of what would be loaded; above `ceiling` it may not lie, however much RAM there is. */
function doesNotFit(
  inputs: BootInputs,
  name: string,
  what: string,
  { needed, ceiling }: { readonly needed: number; readonly ceiling: number },
): VoltError {
  if (needed > ceiling) {
    return imageError(name, `${what} does not fit below ${hex(ceiling)}`, {
      expected: 'files that do; more RAM does not help',
    });
  }
  const found = `${what} does not fit into RAM, which ends at ${hex(lowMemoryEnd(inputs))}`;
  return imageError(name, found, { expected: `--memory of at least ${Math.ceil(needed / MIB)}M` });
}

/** "Cannot load <file>: <found> (expected <expected>)" */
export function imageError(name: string, found: string, options: { expected: string }): VoltError {
  return new VoltError('image', `Cannot load ${name}: ${found} (expected ${options.expected})`);
}
