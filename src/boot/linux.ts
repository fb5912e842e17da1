/**
 * Boots an ELF vmlinux by the 64-bit boot protocol. (Linux Documentation/arch/x86/boot.rst, "64-bit Boot
 * Protocol")
 */
import { hex } from '../binary/bytes.ts';
import { LAYOUT } from '../machine/layout.ts';
import {
  commandLineWrite,
  ELF_INITRD_END_LIMIT,
  imageError,
  placeInitrd,
  type BootInputs,
} from './boot-inputs.ts';
import type { BootPlan } from './boot-plan.ts';
import { buildE820 } from './e820.ts';
import { elfLoads } from './elf-loads.ts';
import { physicalEntry, type ElfImage } from './elf.ts';
import { entryTables, longModeEntry } from './entry-state.ts';
import { IDENTITY_MAPPED_BYTES } from './page-tables.ts';
import { buildZeroPage } from './zero-page.ts';

/** COMMAND_LINE_SIZE of x86 Linux is 2048 with the NUL. A vmlinux, unlike a bzImage, has no field for it. */
const CMDLINE_LIMIT = 2047;

export function planLinux(inputs: BootInputs, image: ElfImage): BootPlan {
  const { name } = inputs.kernel;
  if (image.bits === 32) {
    throw imageError(name, 'it is a 32-bit ELF file without a PVH note or Multiboot header', {
      expected: 'a 64-bit kernel, or a 32-bit one with either',
    });
  }
  const entry = physicalEntry(image);
  if (entry === undefined || entry >= IDENTITY_MAPPED_BYTES) {
    throw imageError(name, `its entry point is ${hex(image.entry)}`, {
      expected: 'an address inside one of its segments and below 1 GiB',
    });
  }
  const loads = elfLoads(image);
  const initrd = placeInitrd(inputs, loads, ELF_INITRD_END_LIMIT);
  const zeroPage = buildZeroPage({
    setupHeader: undefined,
    e820: buildE820(inputs.ranges),
    initrd: initrd && { address: initrd.address, bytes: initrd.fileBytes },
    rsdp: inputs.rsdp,
  });
  return {
    protocol: 'linux',
    summary: 'ELF kernel, 64-bit Linux boot protocol',
    entry: longModeEntry({ rip: entry, rsi: LAYOUT.zeroPage.address }),
    writes: [...entryTables('long'), zeroPage, commandLineWrite(inputs.cmdline, CMDLINE_LIMIT)],
    loads: initrd ? [...loads, initrd] : loads,
  };
}
