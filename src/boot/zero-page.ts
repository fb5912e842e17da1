/** struct boot_params of Linux, the "zero page". (Linux Documentation/arch/x86/zero-page.rst and boot.rst) */
import { putU64, viewOf } from '../binary/bytes.ts';
import { PAGE_BYTES, type GuestAddress } from '../machine/address.ts';
import { LAYOUT } from '../machine/layout.ts';
import type { MemoryWrite } from './boot-plan.ts';
import type { E820Entry } from './e820.ts';

/** Offsets in struct boot_params. The setup header has the same offsets in a bzImage file. */
export const BOOT_PARAMS = {
  acpiRsdpAddr: 0x070,
  extRamdiskImage: 0x0c0,
  extRamdiskSize: 0x0c4,
  extCmdLinePtr: 0x0c8,
  e820Entries: 0x1e8,
  setupHeader: 0x1f1,
  setupSects: 0x1f1,
  bootFlag: 0x1fe,
  jump: 0x200,
  header: 0x202,
  version: 0x206,
  kernelVersion: 0x20e,
  typeOfLoader: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  heapEndPtr: 0x224,
  cmdLinePtr: 0x228,
  initrdAddrMax: 0x22c,
  kernelAlignment: 0x230,
  relocatableKernel: 0x234,
  xloadFlags: 0x236,
  cmdlineSize: 0x238,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
  prefAddress: 0x258,
  initSize: 0x260,
  e820Table: 0x2d0,
  size: PAGE_BYTES,
} as const;

export const E820_TABLE_ENTRY = { address: 0x00, bytes: 0x08, type: 0x10, size: 0x14 } as const;

/** type_of_loader of a boot loader without an assigned id. */
const LOADER_UNDEFINED = 0xff;
/** kernel_alignment for a vmlinux: CONFIG_PHYSICAL_ALIGN's maximum. */
const KERNEL_ALIGNMENT = 0x100_0000;
/** "HdrS" */
export const MAGIC_HDRS = 0x5372_6448;
export const MAGIC_BOOT_FLAG = 0xaa55;

export interface ZeroPageInputs {
  /** A bzImage's setup header, from file offset 0x1F1; undefined for a vmlinux, which has none. */
  readonly setupHeader: Uint8Array | undefined;
  readonly e820: readonly E820Entry[];
  readonly initrd: { readonly address: GuestAddress; readonly bytes: number } | undefined;
  readonly rsdp: GuestAddress | undefined;
}

export function buildZeroPage(inputs: ZeroPageInputs): MemoryWrite {
  const bytes = new Uint8Array(BOOT_PARAMS.size);
  const view = viewOf(bytes);
  if (inputs.setupHeader) {
    bytes.set(inputs.setupHeader, BOOT_PARAMS.setupHeader);
  } else {
    view.setUint16(BOOT_PARAMS.bootFlag, MAGIC_BOOT_FLAG, true);
    view.setUint32(BOOT_PARAMS.header, MAGIC_HDRS, true);
    view.setUint32(BOOT_PARAMS.kernelAlignment, KERNEL_ALIGNMENT, true);
  }
  view.setUint8(BOOT_PARAMS.typeOfLoader, LOADER_UNDEFINED);
  view.setUint32(BOOT_PARAMS.cmdLinePtr, LAYOUT.commandLine.address, true);
  if (inputs.initrd) {
    view.setUint32(BOOT_PARAMS.ramdiskImage, inputs.initrd.address, true);
    view.setUint32(BOOT_PARAMS.ramdiskSize, inputs.initrd.bytes, true);
  }
  if (inputs.rsdp !== undefined) putU64(view, BOOT_PARAMS.acpiRsdpAddr, inputs.rsdp);
  view.setUint8(BOOT_PARAMS.e820Entries, inputs.e820.length);
  inputs.e820.forEach((entry, i) => {
    const at = BOOT_PARAMS.e820Table + i * E820_TABLE_ENTRY.size;
    putU64(view, at + E820_TABLE_ENTRY.address, entry.address);
    putU64(view, at + E820_TABLE_ENTRY.bytes, entry.bytes);
    view.setUint32(at + E820_TABLE_ENTRY.type, entry.type, true);
  });
  return { name: 'zero-page', address: LAYOUT.zeroPage.address, bytes };
}
