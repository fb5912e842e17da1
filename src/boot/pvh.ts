/**
 * PVH: a 32-bit entry point, given by an ELF note of Xen. (Xen docs/misc/pvh.pandoc and
 * xen/include/public/arch-x86/hvm/start_info.h)
 */
import { getU64, hex, putU64, viewOf } from '../binary/bytes.ts';
import { LAYOUT } from '../machine/layout.ts';
import { offsetAddress } from '../machine/address.ts';
import {
  commandLineWrite,
  ELF_INITRD_END_LIMIT,
  imageError,
  placeInitrd,
  type BootInputs,
} from './boot-inputs.ts';
import type { BootPlan, FileLoad, MemoryWrite } from './boot-plan.ts';
import { buildE820 } from './e820.ts';
import { elfLoads } from './elf-loads.ts';
import { isInSegment, type ElfImage } from './elf.ts';
import { entryTables, protectedModeEntry } from './entry-state.ts';

/** XEN_ELFNOTE_PHYS32_ENTRY */
const NOTE_OWNER = 'Xen';
const NOTE_TYPE = 18;

/** struct hvm_start_info, version 1 */
export const START_INFO = {
  magic: 0x00,
  version: 0x04,
  flags: 0x08,
  nrModules: 0x0c,
  modlistPaddr: 0x10,
  cmdlinePaddr: 0x18,
  rsdpPaddr: 0x20,
  memmapPaddr: 0x28,
  memmapEntries: 0x30,
  reserved: 0x34,
  size: 0x38,
} as const;
/** struct hvm_modlist_entry */
export const MODULE_ENTRY = {
  paddr: 0x00,
  bytes: 0x08,
  cmdlinePaddr: 0x10,
  reserved: 0x18,
  size: 0x20,
} as const;
/** struct hvm_memmap_table_entry */
export const MEMMAP_ENTRY = { address: 0x00, bytes: 0x08, type: 0x10, reserved: 0x14, size: 0x18 } as const;

/** XEN_HVM_START_MAGIC_VALUE: "xEn3" with bit 7 of the E set. */
const MAGIC = 0x336e_c578;
const VERSION = 1;
const MODULE_OFFSET = 0x40;
const MEMMAP_OFFSET = 0x80;

/** Physical entry point from the PVH note; undefined if the image has none. */
export function pvhEntry(image: ElfImage): number | undefined {
  const note = image.notes.find((n) => n.owner === NOTE_OWNER && n.type === NOTE_TYPE);
  if (!note || note.content.length < 4) return undefined;
  const view = viewOf(note.content);
  return note.content.length >= 8 ? getU64(view, 0) : view.getUint32(0, true);
}

export function planPvh(inputs: BootInputs, image: ElfImage, entry: number): BootPlan {
  if (!isInSegment(image, entry)) {
    throw imageError(inputs.kernel.name, `the entry point of its PVH note is ${hex(entry)}`, {
      expected: 'an address inside one of its segments',
    });
  }
  const loads = elfLoads(image);
  const initrd = placeInitrd(inputs, loads, ELF_INITRD_END_LIMIT);
  return {
    protocol: 'pvh',
    summary: `${image.bits}-bit ELF kernel, PVH entry`,
    entry: protectedModeEntry({ rip: entry, rbx: LAYOUT.pvhStartInfo.address }),
    writes: [
      ...entryTables('protected'),
      buildStartInfo(inputs, initrd),
      commandLineWrite(inputs.cmdline, LAYOUT.commandLine.bytes - 1),
    ],
    loads: initrd ? [...loads, initrd] : loads,
  };
}

/** hvm_start_info, module list and memory map, in one page. */
function buildStartInfo(inputs: BootInputs, initrd: FileLoad | undefined): MemoryWrite {
  const { address } = LAYOUT.pvhStartInfo;
  const e820 = buildE820(inputs.ranges);
  const bytes = new Uint8Array(MEMMAP_OFFSET + e820.length * MEMMAP_ENTRY.size);
  const view = viewOf(bytes);
  view.setUint32(START_INFO.magic, MAGIC, true);
  view.setUint32(START_INFO.version, VERSION, true);
  putU64(view, START_INFO.cmdlinePaddr, LAYOUT.commandLine.address);
  if (inputs.rsdp !== undefined) putU64(view, START_INFO.rsdpPaddr, inputs.rsdp);
  if (initrd) {
    view.setUint32(START_INFO.nrModules, 1, true);
    putU64(view, START_INFO.modlistPaddr, offsetAddress(address, MODULE_OFFSET));
    putU64(view, MODULE_OFFSET + MODULE_ENTRY.paddr, initrd.address);
    putU64(view, MODULE_OFFSET + MODULE_ENTRY.bytes, initrd.fileBytes);
  }
  putU64(view, START_INFO.memmapPaddr, offsetAddress(address, MEMMAP_OFFSET));
  view.setUint32(START_INFO.memmapEntries, e820.length, true);
  e820.forEach((entry, i) => {
    const at = MEMMAP_OFFSET + i * MEMMAP_ENTRY.size;
    putU64(view, at + MEMMAP_ENTRY.address, entry.address);
    putU64(view, at + MEMMAP_ENTRY.bytes, entry.bytes);
    view.setUint32(at + MEMMAP_ENTRY.type, entry.type, true);
  });
  return { name: 'pvh-start-info', address, bytes };
}
