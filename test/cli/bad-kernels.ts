/** Files that are no kernel for this machine, each with what volt says of it. */
import { badKernel, FOLDER, type BadInput } from './bad-input.ts';
import {
  buildBzImage,
  buildElf,
  buildFlatMultiboot,
  buildMultibootHeader,
  buildNote,
  buildPvhKernel,
  BZIMAGE_BYTES,
  concat,
  ELF_TYPE,
  FIRST_CONTENT,
  MACHINE,
  SEGMENT,
  SPIN,
  withBytes,
  withText,
} from './images.ts';

const KERNELS = 'an ELF vmlinux, a bzImage, or a PVH or Multiboot kernel';
const MIB = 0x10_0000;
const GIB = 0x4000_0000;
const NEAR_END_OF_BASE_MEMORY = 0x9_f000;

const interpreter = {
  type: SEGMENT.interpreter,
  content: new TextEncoder().encode('/lib64/ld-linux-x86-64.so.2\0'),
};
const gnuAbiNote = { type: SEGMENT.note, content: buildNote('GNU', 1, new Uint8Array(16)) };

const PATHS: readonly BadInput[] = [
  {
    name: 'a kernel that is missing',
    args: ['--kernel', '{dir}/none'],
    message: 'Cannot use --kernel {dir}/none: there is no such file (expected the path of a file)',
  },
  {
    name: 'a kernel path that goes through a file',
    files: { file: 'no folder' },
    args: ['--kernel', '{dir}/file/vmlinux'],
    message:
      'Cannot use --kernel {dir}/file/vmlinux: a part of the path is not a directory (expected the path of a file)',
  },
  {
    name: 'a kernel path with a name longer than names can be',
    args: ['--kernel', `{dir}/${'long'.repeat(100)}`],
    message: `Cannot use --kernel {dir}/${'long'.repeat(100)}: the path is too long (expected the path of a file)`,
  },
  {
    name: 'a kernel path that is a symbolic link to itself',
    files: { kernel: { linkTo: 'kernel' } },
    args: ['--kernel', '{dir}/kernel'],
    message: 'Cannot use --kernel {dir}/kernel: too many symbolic links (expected the path of a file)',
  },
  {
    name: 'a folder as kernel',
    files: { kernel: FOLDER },
    args: ['--kernel', '{dir}/kernel'],
    message: 'Cannot use --kernel {dir}/kernel: it is a directory (expected the path of a file)',
  },
  {
    name: 'a device as kernel',
    args: ['--kernel', '/dev/zero'],
    message: 'Cannot use --kernel /dev/zero: it is not a regular file (expected the path of a file)',
  },
];

const FOREIGN: readonly BadInput[] = [
  badKernel('an empty file', '', `the file is empty (expected ${KERNELS})`),
  badKernel(
    'a text file',
    'Hello, world. This is no kernel.\n',
    `it starts with the text "Hello, w", which is not a kernel format (expected ${KERNELS})`,
  ),
  badKernel(
    'one byte',
    'x',
    `it starts with the text "x", which is not a kernel format (expected ${KERNELS})`,
  ),
  badKernel(
    'zeros',
    new Uint8Array(4096),
    `it starts with the bytes 00 00 00 00 00 00 00 00, which is not a kernel format (expected ${KERNELS})`,
  ),
  badKernel('a script', '#!/bin/sh\nexit 0\n', `it is a script (expected ${KERNELS})`),
  badKernel('gzip data', Bun.gzipSync(buildElf()), 'it is gzip data; unpack the kernel with gzip -d'),
  badKernel('zstd data', Bun.zstdCompressSync(buildElf()), 'it is zstd data; unpack the kernel with zstd -d'),
  badKernel('xz data', withText('\xfd7zXZ\0'), 'it is xz data; unpack the kernel with xz -d'),
  badKernel('bzip2 data', withText('BZh91AY&SY'), 'it is bzip2 data; unpack the kernel with bzip2 -d'),
  badKernel(
    'lz4 data in the legacy frame that kernels use',
    withBytes([0x02, 0x21, 0x4c, 0x18]),
    'it is lz4 data; unpack the kernel with lz4 -d',
  ),
  badKernel(
    'lz4 data in the frame of today',
    withBytes([0x04, 0x22, 0x4d, 0x18]),
    'it is lz4 data; unpack the kernel with lz4 -d',
  ),
  badKernel(
    'lzma data',
    withBytes([0x5d, 0x00, 0x00, 0x80]),
    'it is lzma data; unpack the kernel with xz -d --format=lzma',
  ),
  badKernel('lzop data', withText('\x89LZO\0\r\n\x1a\n'), 'it is lzop data; unpack the kernel with lzop -d'),
  badKernel(
    'a cpio archive',
    withText('070701'),
    `it is a cpio archive; pass it as --initrd, and a kernel as --kernel`,
  ),
  badKernel('a tar archive', withText('ustar', 257), `it is a tar archive (expected ${KERNELS})`),
  badKernel('a zip archive', withText('PK\x03\x04'), `it is a zip archive (expected ${KERNELS})`),
  badKernel(
    'a Debian package',
    withText('!<arch>\ndebian-binary'),
    `it is an ar archive or Debian package; unpack it with dpkg -x, and pass the kernel in it`,
  ),
  badKernel('a qcow2 disk image', withText('QFI\xfb'), `it is a qcow2 disk image (expected ${KERNELS})`),
  badKernel(
    'an EFI program without the HdrS of Linux',
    withText('MZ'),
    `it is an EFI or Windows program without a Linux setup header (expected ${KERNELS})`,
  ),
  badKernel(
    'an arm64 Image',
    concat(withText('MZ', 0, 0x38), withText('ARM\x64')),
    'it is an arm64 Linux Image; use a kernel for x86-64',
  ),
  badKernel(
    'a RISC-V Image',
    concat(withText('MZ', 0, 0x38), withText('RSC\x05')),
    'it is a RISC-V Linux Image; use a kernel for x86-64',
  ),
];

const ELF: readonly BadInput[] = [
  badKernel(
    'an ELF kernel for arm64',
    buildElf({ machine: MACHINE.arm64 }),
    'it is an ELF file for arm64 (expected a kernel for x86-64)',
  ),
  badKernel(
    'an ELF kernel for RISC-V',
    buildElf({ machine: MACHINE.riscv }),
    'it is an ELF file for RISC-V (expected a kernel for x86-64)',
  ),
  badKernel(
    'a big-endian ELF kernel',
    buildElf({ machine: MACHINE.powerPc64, bigEndian: true }),
    'it is an ELF file for PowerPC64 (expected a kernel for x86-64)',
  ),
  badKernel(
    'an ELF file of class 0',
    buildElf().fill(0, 4, 5),
    'its ELF class is 0 (expected 1 for 32-bit or 2 for 64-bit)',
  ),
  badKernel(
    'an ELF file of unknown type',
    buildElf({ type: 9 }),
    'its ELF type is 9 (expected an executable)',
  ),
  badKernel(
    'a relocatable object',
    buildElf({ type: ELF_TYPE.relocatable }),
    'it is a relocatable object or kernel module (expected a linked kernel)',
  ),
  badKernel('a core dump', buildElf({ type: ELF_TYPE.core }), 'it is a core dump (expected a kernel)'),
  badKernel(
    'a dynamic program',
    buildElf({ segments: [{}, interpreter] }),
    'it is a user-space program for Linux; pass a kernel, and put programs into its initrd',
  ),
  badKernel(
    'a static program',
    buildElf({ segments: [{}, gnuAbiNote] }),
    'it is a user-space program for Linux; pass a kernel, and put programs into its initrd',
  ),
  badKernel(
    'an ELF file that ends inside its header',
    buildElf().slice(0, 0x3f),
    'the ELF header is truncated (expected a whole ELF file)',
  ),
  badKernel(
    'an ELF file that ends after its magic number',
    buildElf().slice(0, 4),
    'the ELF header is truncated (expected a whole ELF file)',
  ),
  badKernel(
    'an ELF file that ends inside its program headers',
    buildElf().slice(0, 0x77),
    'it is truncated: the program headers are beyond its end (expected at least 120 bytes, found 119)',
  ),
  badKernel(
    'an ELF file that ends inside a segment',
    buildElf().slice(0, FIRST_CONTENT + 1),
    'it is truncated: it has 4097 bytes (expected at least 4098, the end of a segment)',
  ),
  badKernel(
    'a segment with more bytes in the file than in memory',
    buildElf({ segments: [{ memoryBytes: 1 }] }),
    'a segment has 2 bytes in the file and 1 in memory (expected at most as many in the file as in memory)',
  ),
  badKernel(
    'an ELF file without program headers',
    buildElf({ segments: [] }),
    'it has 0 program headers of 56 bytes (expected 1 to 256 of 56 bytes)',
  ),
  badKernel(
    'an ELF file without a segment to load',
    buildElf({ segments: [{ type: 6 }] }),
    'it has no segment to load (expected at least one PT_LOAD)',
  ),
  badKernel(
    'segments that overlap',
    buildElf({ segments: [{ memoryBytes: 0x2000 }, { address: MIB + 0x1000 }] }),
    'its kernel-segment-0 and kernel-segment-1 overlap at 0x101000 (expected disjoint memory ranges)',
  ),
  badKernel(
    'a segment over the zero page',
    buildElf({ entry: 0x6ff0, segments: [{ address: 0x6ff0, memoryBytes: 0x20 }] }),
    'its kernel-segment-0 and zero-page overlap at 0x7000 (expected disjoint memory ranges)',
  ),
  badKernel(
    'a segment over the firmware area',
    buildElf({
      entry: NEAR_END_OF_BASE_MEMORY,
      segments: [{ address: NEAR_END_OF_BASE_MEMORY, memoryBytes: 0x1000 }],
    }),
    'its kernel-segment-0 at 0x9f000 covers the firmware area (expected segments below 0x9fc00 or from 1 MiB)',
  ),
  badKernel(
    'a segment above RAM',
    buildElf({ entry: 64 * MIB, segments: [{ address: 64 * MIB }] }),
    'kernel-segment-0 up to 0x4000002 does not fit into RAM, which ends at 0x2000000; use --memory 65M or more',
    ['--memory', '32M'],
  ),
  badKernel(
    'a segment in the MMIO hole, however much RAM there is',
    buildElf({ segments: [{}, { address: 3 * GIB }] }),
    'kernel-segment-1 up to 0xc0000002 does not fit below 0xc0000000; use a smaller file, because more RAM does not help',
    ['--memory', '8G'],
  ),
  badKernel(
    'a segment over the BIOS data area',
    buildElf({ entry: 0x400, segments: [{ address: 0x400 }] }),
    'its kernel-segment-0 and bios-data-area overlap at 0x400 (expected disjoint memory ranges)',
  ),
  badKernel(
    'a segment that no address reaches',
    buildElf({ segments: [{ address: 2 ** 52 }] }),
    'a segment is linked at physical address 0x10000000000000 (expected an address below 2^52)',
  ),
  badKernel(
    'an entry point outside the segments',
    buildElf({ entry: 2 * MIB }),
    'its entry point is 0x200000 (expected an address inside one of its segments and below 1 GiB)',
  ),
  badKernel(
    'an entry point where the boot page tables end',
    buildElf({ entry: GIB, segments: [{ address: GIB }] }),
    'its entry point is 0x40000000 (expected an address inside one of its segments and below 1 GiB)',
    ['--memory', '2G'],
  ),
  badKernel(
    'a 32-bit ELF without PVH or Multiboot',
    buildElf({ bits: 32, machine: MACHINE.i386 }),
    'it is a 32-bit ELF file without a PVH note or Multiboot header (expected a 64-bit kernel, or a 32-bit one with either)',
  ),
  badKernel(
    'a PVH note that names no segment',
    buildPvhKernel(3 * MIB),
    'the entry point of its PVH note is 0x300000 (expected an address inside one of its segments)',
  ),
];

const MULTIBOOT: readonly BadInput[] = [
  badKernel(
    'a Multiboot header that demands what no loader knows',
    buildFlatMultiboot({ flags: 0x1_000c }),
    'its Multiboot header requires features 0x8 (expected only page-aligned modules, memory information and video)',
  ),
  badKernel(
    'a flat Multiboot image without addresses',
    buildFlatMultiboot({ flags: 0 }),
    'its Multiboot header has no valid address fields; correct them, or build an ELF file',
  ),
  badKernel(
    'a truncated flat Multiboot image',
    buildFlatMultiboot({ loadEndAddress: MIB + 0x1000 }),
    'it is truncated at 34 bytes (expected at least 4096 bytes, according to its Multiboot header)',
  ),
  badKernel(
    'a flat Multiboot image whose .bss does not fit',
    buildFlatMultiboot({ bssEndAddress: 64 * MIB }),
    'kernel up to 0x4000000 does not fit into RAM, which ends at 0x2000000; use --memory 64M or more',
    ['--memory', '32M'],
  ),
  badKernel(
    'a flat Multiboot image entered outside itself',
    buildFlatMultiboot({ entryAddress: 2 * MIB }),
    'its entry point is 0x200000 (expected an address inside a loaded range and below 4 GiB)',
  ),
  badKernel(
    'a Multiboot ELF entered outside its segments',
    buildElf({
      bits: 32,
      machine: MACHINE.i386,
      entry: 2 * MIB,
      segments: [{ content: concat(buildMultibootHeader({ flags: 0 }), SPIN) }],
    }),
    'its entry point is 0x200000 (expected an address inside a loaded range and below 4 GiB)',
  ),
];

const BZIMAGE: readonly BadInput[] = [
  badKernel(
    'a bzImage that ends inside its setup header',
    buildBzImage().slice(0, 0x240),
    'it is truncated inside its setup header (expected a whole bzImage)',
  ),
  badKernel(
    'a bzImage that ends inside its payload',
    buildBzImage().slice(0, BZIMAGE_BYTES - 1),
    `it is truncated at ${BZIMAGE_BYTES - 1} bytes (expected at least ${BZIMAGE_BYTES} bytes)`,
  ),
  badKernel(
    'a bzImage of an old boot protocol',
    buildBzImage({ version: 0x020a }),
    'its boot protocol is 2.10 (expected 2.12 or later, of Linux 3.8)',
  ),
  badKernel(
    'a 32-bit bzImage',
    buildBzImage({ xloadFlags: 0 }),
    'it is a 32-bit Linux kernel (expected one for x86-64)',
  ),
  badKernel('a zImage', buildBzImage({ loadFlags: 0 }), 'it is a zImage (expected a bzImage)'),
  badKernel(
    'a bzImage that unpacks to more RAM than there is',
    buildBzImage({ initSize: 64 * MIB }),
    'kernel up to 0x5000000 does not fit into RAM, which ends at 0x2000000; use --memory 80M or more',
    ['--memory', '32M'],
  ),
  badKernel(
    'a bzImage that prefers an address beyond all RAM',
    buildBzImage({ prefAddress: 2 ** 52 }),
    'its preferred address is 0x10000000000000 (expected an address in RAM)',
  ),
];

const BOOT_FLAG: readonly BadInput[] = [
  badKernel(
    '--boot pvh for a kernel without the note',
    buildElf(),
    '--boot pvh was given, but it has no PVH note; leave out --boot, or use a kernel for that protocol',
    ['--boot', 'pvh'],
  ),
  badKernel(
    '--boot multiboot for a kernel without the header',
    buildElf(),
    '--boot multiboot was given, but it has no Multiboot header; leave out --boot, or use a kernel for that protocol',
    ['--boot', 'multiboot'],
  ),
  badKernel(
    '--boot bzimage for an ELF kernel',
    buildElf(),
    '--boot bzimage was given, but it is not a bzImage; leave out --boot, or use a kernel for that protocol',
    ['--boot', 'bzimage'],
  ),
  badKernel(
    '--boot linux for a bzImage',
    buildBzImage(),
    '--boot linux was given, but it is a bzImage; leave out --boot, or use a kernel for that protocol',
    ['--boot', 'linux'],
  ),
  badKernel(
    '--boot linux for a flat Multiboot image',
    buildFlatMultiboot(),
    '--boot linux was given, but it is a flat Multiboot image; leave out --boot, or use a kernel for that protocol',
    ['--boot', 'linux'],
  ),
];

export const BAD_KERNELS: readonly BadInput[] = [
  ...PATHS,
  ...FOREIGN,
  ...ELF,
  ...MULTIBOOT,
  ...BZIMAGE,
  ...BOOT_FLAG,
];
