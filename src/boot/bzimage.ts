/**
 * Boots a bzImage at its 64-bit entry point. (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol")
 */
import { readUpTo } from '../binary/byte-source.ts';
import { getAscii, getU64, hex, viewOf } from '../binary/bytes.ts';
import { alignUp } from '../machine/address.ts';
import { LAYOUT } from '../machine/layout.ts';
import {
  commandLineWrite,
  imageError,
  PHYSICAL_ADDRESS_END,
  placeInitrd,
  type BootInputs,
} from './boot-inputs.ts';
import type { BootPlan, FileLoad } from './boot-plan.ts';
import { buildE820 } from './e820.ts';
import { entryTables, longModeEntry } from './entry-state.ts';
import { BOOT_PARAMS, buildZeroPage } from './zero-page.ts';

const SECTOR_BYTES = 512;
/** setup_sects 0 means 4. (boot.rst, setup_sects) */
const DEFAULT_SETUP_SECTS = 4;
const PROTOCOL_2_12 = 0x020c;
/** loadflags: the protected-mode code is loaded at 1 MiB. */
const LOADED_HIGH = 1 << 0;
/** xloadflags: there is a 64-bit entry point at 0x200. */
const XLF_KERNEL_64 = 1 << 0;
const ENTRY_64_OFFSET = 0x200;

export function planBzImage(inputs: BootInputs): BootPlan {
  const { kernel } = inputs;
  const fail = (found: string, expected: string) => imageError(kernel.name, found, { expected });
  const head = readUpTo(kernel, 0, BOOT_PARAMS.e820Table);
  if (head.length < BOOT_PARAMS.initSize + 4)
    throw fail('it is truncated inside its setup header', 'a whole bzImage');
  const view = viewOf(head);

  const version = view.getUint16(BOOT_PARAMS.version, true);
  if (version < PROTOCOL_2_12) {
    throw fail(`its boot protocol is ${version >> 8}.${version & 0xff}`, '2.12 or later, of Linux 3.8');
  }
  if (!(view.getUint16(BOOT_PARAMS.xloadFlags, true) & XLF_KERNEL_64)) {
    throw fail('it is a 32-bit Linux kernel', 'one for x86-64');
  }
  if (!(view.getUint8(BOOT_PARAMS.loadFlags) & LOADED_HIGH)) throw fail('it is a zImage', 'a bzImage');

  const setupBytes = ((view.getUint8(BOOT_PARAMS.setupSects) || DEFAULT_SETUP_SECTS) + 1) * SECTOR_BYTES;
  const payloadEnd =
    setupBytes +
    view.getUint32(BOOT_PARAMS.payloadOffset, true) +
    view.getUint32(BOOT_PARAMS.payloadLength, true);
  const leastBytes = Math.max(payloadEnd, setupBytes + ENTRY_64_OFFSET + 1);
  if (kernel.bytes < leastBytes) {
    throw fail(`it is truncated at ${kernel.bytes} bytes`, `at least ${leastBytes} bytes`);
  }

  const load = protectedModeCode(inputs, view, setupBytes);
  const initrd = placeInitrd(inputs, [load], view.getUint32(BOOT_PARAMS.initrdAddrMax, true) + 1);
  const zeroPage = buildZeroPage({
    setupHeader: setupHeader(head),
    e820: buildE820(inputs.ranges),
    initrd: initrd && { address: initrd.address, bytes: initrd.fileBytes },
    rsdp: inputs.rsdp,
  });
  const cmdline = commandLineWrite(inputs.cmdline, view.getUint32(BOOT_PARAMS.cmdlineSize, true));
  return {
    protocol: 'bzimage',
    summary: `Linux ${kernelVersion(inputs, view)} bzImage, 64-bit entry`,
    entry: longModeEntry({ rip: load.address + ENTRY_64_OFFSET, rsi: LAYOUT.zeroPage.address }),
    writes: [...entryTables('long'), zeroPage, cmdline],
    loads: initrd ? [load, initrd] : [load],
  };
}

/**
 * The code after the setup sectors is loaded at 1 MiB. A relocatable kernel decompresses itself to
 * pref_address, or to the next aligned address, and needs init_size bytes there: memoryBytes includes them.
 */
function protectedModeCode(inputs: BootInputs, view: DataView, setupBytes: number): FileLoad {
  const address = LAYOUT.kernel.address;
  const fileBytes = inputs.kernel.bytes - setupBytes;
  const preferred = getU64(view, BOOT_PARAMS.prefAddress);
  const alignment = view.getUint32(BOOT_PARAMS.kernelAlignment, true) || 1;
  const runtimeStart = Math.max(alignUp(address, alignment), preferred);
  const end = Math.max(address + fileBytes, runtimeStart + view.getUint32(BOOT_PARAMS.initSize, true));
  if (end >= PHYSICAL_ADDRESS_END) {
    throw imageError(inputs.kernel.name, `its preferred address is ${hex(preferred)}`, {
      expected: 'an address in RAM',
    });
  }
  return {
    name: 'kernel',
    file: 'kernel',
    fileOffset: setupBytes,
    fileBytes,
    address,
    memoryBytes: end - address,
  };
}

/** From 0x1F1 to the target of the jump at 0x200: the byte at 0x201 is its offset from 0x202. */
function setupHeader(head: Uint8Array): Uint8Array {
  const end = BOOT_PARAMS.header + (head[BOOT_PARAMS.jump + 1] ?? 0);
  return head.slice(BOOT_PARAMS.setupHeader, Math.min(end, BOOT_PARAMS.e820Table));
}

/** `6.1.0-42-amd64` from the version string; the kernel_version field is its offset from 0x200. */
function kernelVersion(inputs: BootInputs, view: DataView): string {
  const offset = view.getUint16(BOOT_PARAMS.kernelVersion, true);
  const text = offset ? readUpTo(inputs.kernel, offset + BOOT_PARAMS.jump, 64) : new Uint8Array();
  const version = /^[\x21-\x7e]+/.exec(getAscii(text, 0, text.length));
  return version ? version[0] : 'kernel';
}
