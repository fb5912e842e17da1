/** Recognises the format of a kernel or initrd file by its first bytes, including files passed by mistake. */
import { readUpTo, type ByteSource } from '../binary/byte-source.ts';
import { getAscii, viewOf } from '../binary/bytes.ts';
import { imageError } from './boot-inputs.ts';
import { ELF_MAGIC } from './elf.layout.ts';
import { BOOT_PARAMS, MAGIC_BOOT_FLAG, MAGIC_HDRS } from './zero-page.ts';

export type ImageKind = 'elf' | 'bzimage' | 'raw';

const PROBE_BYTES = 4096;

interface Magic {
  readonly offset: number;
  readonly bytes: readonly number[];
  readonly is: string;
  /** What to do; without it the error says which formats are kernels. */
  readonly fix?: string;
}

const KERNELS = 'an ELF vmlinux, a bzImage, or a PVH or Multiboot kernel';

function compressed(bytes: number[], tool: string, command: string): Magic {
  return {
    offset: 0,
    bytes,
    is: `it is ${tool} data`,
    fix: `unpack the kernel with ${command}`,
  };
}

const ascii = (text: string) => [...text].map((c) => c.charCodeAt(0));

/** Formats that are not kernels. They are looked for last: a bzImage may start with an MZ header. */
const FOREIGN: readonly Magic[] = [
  compressed([0x1f, 0x8b], 'gzip', 'gzip -d'),
  compressed([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], 'xz', 'xz -d'),
  compressed([0x28, 0xb5, 0x2f, 0xfd], 'zstd', 'zstd -d'),
  compressed([0x42, 0x5a, 0x68], 'bzip2', 'bzip2 -d'),
  compressed([0x02, 0x21, 0x4c, 0x18], 'lz4', 'lz4 -d'),
  compressed([0x04, 0x22, 0x4d, 0x18], 'lz4', 'lz4 -d'),
  compressed([0x5d, 0x00, 0x00], 'lzma', 'xz -d --format=lzma'),
  compressed([0x89, 0x4c, 0x5a, 0x4f], 'lzop', 'lzop -d'),
  {
    offset: 0,
    bytes: ascii('070701'),
    is: 'it is a cpio archive',
    fix: 'pass it as --initrd, and a kernel as --kernel',
  },
  {
    offset: 0,
    bytes: ascii('!<arch>'),
    is: 'it is an ar archive or Debian package',
    fix: 'unpack it with dpkg -x, and pass the kernel in it',
  },
  { offset: 0, bytes: ascii('PK\x03\x04'), is: 'it is a zip archive' },
  { offset: 0, bytes: ascii('QFI\xfb'), is: 'it is a qcow2 disk image' },
  { offset: 0, bytes: ascii('#!'), is: 'it is a script' },
  { offset: 257, bytes: ascii('ustar'), is: 'it is a tar archive' },
  {
    offset: 0x38,
    bytes: ascii('ARM\x64'),
    is: 'it is an arm64 Linux Image',
    fix: 'use a kernel for x86-64',
  },
  {
    offset: 0x38,
    bytes: ascii('RSC\x05'),
    is: 'it is a RISC-V Linux Image',
    fix: 'use a kernel for x86-64',
  },
  {
    offset: 0,
    bytes: ascii('MZ'),
    is: 'it is an EFI or Windows program without a Linux setup header',
  },
];

/**
 * 'raw' is a file with a Multiboot header that is neither ELF nor bzImage. Throws VoltError 'image' for a
 * file that is not a kernel.
 */
export function recogniseImage(source: ByteSource, hasMultibootHeader: () => boolean): ImageKind {
  if (source.bytes === 0) throw imageError(source.name, 'the file is empty', { expected: KERNELS });
  const head = readUpTo(source, 0, PROBE_BYTES);
  if (startsWith(head, 0, ELF_MAGIC)) return 'elf';
  if (isBzImage(head)) return 'bzimage';
  if (hasMultibootHeader()) return 'raw';
  const foreign = FOREIGN.find(({ offset, bytes }) => startsWith(head, offset, bytes));
  if (foreign) {
    throw imageError(source.name, foreign.is, foreign.fix ? { fix: foreign.fix } : { expected: KERNELS });
  }
  throw imageError(source.name, `it starts with ${describeStart(head)}, which is not a kernel format`, {
    expected: KERNELS,
  });
}

/** Throws VoltError 'image' for a file that can be neither an initrd nor a module of another kernel. */
export function checkModule(source: ByteSource): void {
  if (source.bytes > 0) return;
  throw imageError(source.name, 'the file is empty', { expected: 'a cpio archive' });
}

/**
 * Throws VoltError 'image' for a file that cannot be an initrd of Linux. Compressed archives and file systems
 * can be.
 */
export function checkInitrd(source: ByteSource): void {
  const head = readUpTo(source, 0, PROBE_BYTES);
  if (startsWith(head, 0, ELF_MAGIC) || isBzImage(head)) {
    throw imageError(source.name, 'it is a kernel or a program', {
      expected: 'a cpio archive',
    });
  }
}

function isBzImage(head: Uint8Array): boolean {
  return (
    head.length >= BOOT_PARAMS.version &&
    viewOf(head).getUint16(BOOT_PARAMS.bootFlag, true) === MAGIC_BOOT_FLAG &&
    viewOf(head).getUint32(BOOT_PARAMS.header, true) === MAGIC_HDRS
  );
}

function startsWith(head: Uint8Array, offset: number, bytes: readonly number[]): boolean {
  return bytes.every((byte, i) => head[offset + i] === byte);
}

function describeStart(head: Uint8Array): string {
  const start = head.subarray(0, 8);
  if (start.every((byte) => byte >= 0x20 && byte < 0x7f))
    return `the text "${getAscii(start, 0, start.length)}"`;
  return `the bytes ${[...start].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}`;
}
