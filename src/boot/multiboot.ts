/** Multiboot 1. Section numbers are those of the Multiboot Specification, version 0.6.96. */
import { basename } from 'node:path';
import { readUpTo, type ByteSource } from '../binary/byte-source.ts';
import { hex, putAscii, putU64, viewOf } from '../binary/bytes.ts';
import { KIB, MIB, guestAddress, offsetAddress } from '../machine/address.ts';
import { EBDA_START, LAYOUT } from '../machine/layout.ts';
import { commandLineWrite, imageError, lowMemoryEnd, placeModule, type BootInputs } from './boot-inputs.ts';
import type { BootPlan, FileLoad, MemoryWrite } from './boot-plan.ts';
import { buildE820 } from './e820.ts';
import { elfLoads } from './elf-loads.ts';
import { physicalEntry, type ElfImage } from './elf.ts';
import { entryTables, protectedModeEntry } from './entry-state.ts';

/** The header, 4-byte aligned in the first 8192 bytes of the file. (§3.1.1) */
const HEADER = {
  magic: 0x00,
  flags: 0x04,
  checksum: 0x08,
  headerAddr: 0x0c,
  loadAddr: 0x10,
  loadEndAddr: 0x14,
  bssEndAddr: 0x18,
  entryAddr: 0x1c,
  size: 0x20,
} as const;
const HEADER_SIZE_WITHOUT_ADDRESSES = 0x0c;
const SEARCH_BYTES = 8192;
const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002;

/**
 * Header flags. A loader must refuse a kernel if it does not support one of flags 0–15 that is set. (§3.1.2)
 */
const WANTS_PAGE_ALIGNED_MODULES = 1 << 0;
const WANTS_MEMORY_INFO = 1 << 1;
/**
 * Deliberate deviation: a kernel that requests video information starts without it, as with GRUB and QEMU.
 * Such kernels also print to the serial port, or check the flags of the boot information.
 */
const WANTS_VIDEO = 1 << 2;
/** Modules are always page-aligned, and the memory map is always present. */
const SUPPORTED = WANTS_PAGE_ALIGNED_MODULES | WANTS_MEMORY_INFO | WANTS_VIDEO;
const HAS_ADDRESSES = 1 << 16;

/** Multiboot information. (§3.3) */
const BOOT_INFO = {
  flags: 0x00,
  memLower: 0x04,
  memUpper: 0x08,
  bootDevice: 0x0c,
  cmdline: 0x10,
  modsCount: 0x14,
  modsAddr: 0x18,
  syms: 0x1c,
  mmapLength: 0x2c,
  mmapAddr: 0x30,
  drivesLength: 0x34,
  drivesAddr: 0x38,
  configTable: 0x3c,
  bootLoaderName: 0x40,
  size: 0x58,
} as const;
const BOOT_INFO_FLAG = {
  memory: 1,
  cmdline: 1 << 2,
  modules: 1 << 3,
  memoryMap: 1 << 6,
  loaderName: 1 << 9,
} as const;
/** A memory map entry. Its first field is the size of the rest. (§3.3) */
const MMAP_ENTRY = { entrySize: 0x00, address: 0x04, bytes: 0x0c, type: 0x14, size: 0x18 } as const;
const MODULE = { start: 0x00, end: 0x04, string: 0x08, reserved: 0x0c, size: 0x10 } as const;

const LOADER_NAME = 'Volt';
const MODULES_OFFSET = 0x60;
const NAME_OFFSET = 0x70;
const MMAP_OFFSET = 0x80;

export interface MultibootHeader {
  readonly fileOffset: number;
  readonly flags: number;
  /** Address fields: they override the ELF header; all zero without HAS_ADDRESSES. (§3.1.3) */
  readonly headerAddress: number;
  readonly loadAddress: number;
  readonly loadEndAddress: number;
  readonly bssEndAddress: number;
  readonly entryAddress: number;
}

/** The first header whose magic, flags and checksum sum to 0, modulo 2^32. (§3.1.1) */
export function findMultibootHeader(source: ByteSource): MultibootHeader | undefined {
  const bytes = readUpTo(source, 0, SEARCH_BYTES);
  const view = viewOf(bytes);
  for (let at = 0; at + HEADER_SIZE_WITHOUT_ADDRESSES <= bytes.length; at += 4) {
    if (view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(at + HEADER.flags, true);
    if ((HEADER_MAGIC + flags + view.getUint32(at + HEADER.checksum, true)) >>> 0 !== 0) continue;
    const hasAddresses = (flags & HAS_ADDRESSES) !== 0;
    if (hasAddresses && at + HEADER.size > bytes.length) continue;
    const address = (offset: number) => (hasAddresses ? view.getUint32(at + offset, true) : 0);
    return {
      fileOffset: at,
      flags,
      headerAddress: address(HEADER.headerAddr),
      loadAddress: address(HEADER.loadAddr),
      loadEndAddress: address(HEADER.loadEndAddr),
      bssEndAddress: address(HEADER.bssEndAddr),
      entryAddress: address(HEADER.entryAddr),
    };
  }
  return undefined;
}

/** `image` is undefined for a file that is not ELF: then the header must have address fields. */
export function planMultiboot(
  inputs: BootInputs,
  header: MultibootHeader,
  image: ElfImage | undefined,
): BootPlan {
  const { name } = inputs.kernel;
  const demands = header.flags & 0xffff & ~SUPPORTED;
  if (demands !== 0) {
    throw imageError(name, `its Multiboot header requires features ${hex(demands)}`, {
      expected: 'only page-aligned modules, memory information and video',
    });
  }
  // The address fields override the ELF header. (§3.1.2, flag 16)
  const hasAddresses = (header.flags & HAS_ADDRESSES) !== 0;
  const { loads, entry } =
    image && !hasAddresses
      ? { loads: elfLoads(image), entry: physicalEntry(image) }
      : flatImage(inputs, header);
  const inLoad = loads.some(({ address, memoryBytes }) => isIn(entry, address, memoryBytes));
  if (entry === undefined || !inLoad || entry >= 2 ** 32) {
    const found = `its entry point is ${hex(image && !hasAddresses ? image.entry : header.entryAddress)}`;
    throw imageError(name, found, { expected: 'an address inside a loaded range and below 4 GiB' });
  }
  const initrd = placeModule(inputs, loads);
  return {
    protocol: 'multiboot',
    summary: image ? `${image.bits}-bit ELF kernel, Multiboot` : 'flat kernel, Multiboot',
    entry: protectedModeEntry(
      { rip: entry, rax: LOADER_MAGIC, rbx: LAYOUT.multibootInfo.address },
      'multiboot',
    ),
    writes: [
      ...entryTables('multiboot'),
      buildBootInfo(inputs, initrd),
      commandLineWrite(inputs.cmdline, LAYOUT.commandLine.bytes - 1),
    ],
    loads: initrd ? [...loads, initrd] : loads,
    ...(header.flags & WANTS_VIDEO ? { warnings: [videoWarning(name)] } : {}),
  };
}

function videoWarning(kernel: string): string {
  return `${kernel} requests a video mode in its Multiboot header; it starts without one, because Volt has no display`;
}

function isIn(entry: number | undefined, start: number, bytes: number): boolean {
  return entry !== undefined && entry >= start && entry < start + bytes;
}

/**
 * Loads a file by the address fields: header_addr - load_addr is the header's offset in what is loaded.
 * (§3.1.3)
 */
function flatImage(inputs: BootInputs, header: MultibootHeader): { loads: FileLoad[]; entry: number } {
  const { kernel } = inputs;
  const { loadAddress, headerAddress, loadEndAddress, bssEndAddress, entryAddress } = header;
  const fileOffset = header.fileOffset - (headerAddress - loadAddress);
  const fileBytes = loadEndAddress === 0 ? kernel.bytes - fileOffset : loadEndAddress - loadAddress;
  const memoryBytes = Math.max(fileBytes, bssEndAddress - loadAddress);
  const valid = (header.flags & HAS_ADDRESSES) !== 0 && fileOffset >= 0 && fileBytes > 0;
  if (!valid) {
    throw imageError(kernel.name, 'its Multiboot header has no valid address fields', {
      fix: 'correct them, or build an ELF file',
    });
  }
  if (fileOffset + fileBytes > kernel.bytes) {
    throw imageError(kernel.name, `it is truncated at ${kernel.bytes} bytes`, {
      expected: `at least ${fileOffset + fileBytes} bytes, according to its Multiboot header`,
    });
  }
  const address = guestAddress(loadAddress);
  return {
    loads: [{ name: 'kernel', file: 'kernel', fileOffset, fileBytes, address, memoryBytes }],
    entry: entryAddress,
  };
}

function buildBootInfo(inputs: BootInputs, initrd: FileLoad | undefined): MemoryWrite {
  const { address } = LAYOUT.multibootInfo;
  const e820 = buildE820(inputs.ranges);
  const stringOffset = MMAP_OFFSET + e820.length * MMAP_ENTRY.size;
  const moduleString = Buffer.from(initrd ? `${basename(inputs.initrd?.name ?? '')}\0` : '');
  const bytes = new Uint8Array(stringOffset + moduleString.length);
  const view = viewOf(bytes);
  const { memory, cmdline, modules, memoryMap, loaderName } = BOOT_INFO_FLAG;
  view.setUint32(BOOT_INFO.flags, memory | cmdline | (initrd ? modules : 0) | memoryMap | loaderName, true);
  view.setUint32(BOOT_INFO.memLower, EBDA_START / KIB, true);
  view.setUint32(BOOT_INFO.memUpper, Math.floor((lowMemoryEnd(inputs) - MIB) / KIB), true);
  view.setUint32(BOOT_INFO.cmdline, LAYOUT.commandLine.address, true);
  if (initrd) {
    view.setUint32(BOOT_INFO.modsCount, 1, true);
    view.setUint32(BOOT_INFO.modsAddr, offsetAddress(address, MODULES_OFFSET), true);
    view.setUint32(MODULES_OFFSET + MODULE.start, initrd.address, true);
    view.setUint32(MODULES_OFFSET + MODULE.end, initrd.address + initrd.fileBytes, true);
    view.setUint32(MODULES_OFFSET + MODULE.string, offsetAddress(address, stringOffset), true);
    bytes.set(moduleString, stringOffset);
  }
  view.setUint32(BOOT_INFO.mmapLength, e820.length * MMAP_ENTRY.size, true);
  view.setUint32(BOOT_INFO.mmapAddr, offsetAddress(address, MMAP_OFFSET), true);
  view.setUint32(BOOT_INFO.bootLoaderName, offsetAddress(address, NAME_OFFSET), true);
  putAscii(bytes, NAME_OFFSET, LOADER_NAME);
  e820.forEach((entry, i) => {
    const at = MMAP_OFFSET + i * MMAP_ENTRY.size;
    view.setUint32(at + MMAP_ENTRY.entrySize, MMAP_ENTRY.size - 4, true);
    putU64(view, at + MMAP_ENTRY.address, entry.address);
    putU64(view, at + MMAP_ENTRY.bytes, entry.bytes);
    view.setUint32(at + MMAP_ENTRY.type, entry.type, true);
  });
  return { name: 'multiboot-info', address, bytes };
}
