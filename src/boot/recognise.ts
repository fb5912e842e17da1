/** What a kernel file is, told from its first bytes, and what to do when it is no kernel. */
import { readUpTo, type ByteSource } from '../binary/byte-source.ts';
import { getAscii, viewOf } from '../binary/bytes.ts';
import { imageError } from './boot-inputs.ts';

export type ImageKind = 'elf' | 'bzimage' | 'raw';

const PROBE_BYTES = 4096;

interface Magic {
  readonly offset: number;
  readonly bytes: readonly number[];
  readonly is: string;
  readonly expected: string;
}

const KERNELS = 'an ELF vmlinux, a bzImage, or a PVH or Multiboot kernel';

function compressed(bytes: number[], tool: string, command: string): Magic {
  return {
    offset: 0,
    bytes,
    is: `it is ${tool} data`,
    expected: `the kernel inside; unpack it with ${command}`,
  };
}

const ascii = (text: string) => [...text].map((c) => c.charCodeAt(0));

/** Files that people hand over by mistake. A bzImage is looked for first: it may carry an MZ header. */
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
    expected: `${KERNELS}; pass this file as --initrd`,
  },
  {
    offset: 0,
    bytes: ascii('!<arch>'),
    is: 'it is an ar archive or Debian package',
    expected: `${KERNELS}; unpack the package with dpkg -x`,
  },
  { offset: 0, bytes: ascii('PK\x03\x04'), is: 'it is a zip archive', expected: KERNELS },
  { offset: 0, bytes: ascii('QFI\xfb'), is: 'it is a qcow2 disk image', expected: KERNELS },
  { offset: 0, bytes: ascii('#!'), is: 'it is a script', expected: KERNELS },
  { offset: 257, bytes: ascii('ustar'), is: 'it is a tar archive', expected: KERNELS },
  {
    offset: 0x38,
    bytes: ascii('ARM\x64'),
    is: 'it is an arm64 Linux Image',
    expected: 'a kernel for x86-64',
  },
  {
    offset: 0x38,
    bytes: ascii('RSC\x05'),
    is: 'it is a RISC-V Linux Image',
    expected: 'a kernel for x86-64',
  },
  {
    offset: 0,
    bytes: ascii('MZ'),
    is: 'it is an EFI or Windows program without a Linux setup header',
    expected: KERNELS,
  },
];

/** 'raw' is for a file with a Multiboot header and no ELF around it; its loader decides. Throws for the rest. */
export function recogniseImage(source: ByteSource, hasMultibootHeader: () => boolean): ImageKind {
  if (source.bytes === 0) throw imageError(source.name, 'the file is empty', { expected: KERNELS });
  const head = readUpTo(source, 0, PROBE_BYTES);
  if (startsWith(head, 0, [0x7f, 0x45, 0x4c, 0x46])) return 'elf';
  if (isBzImage(head)) return 'bzimage';
  if (hasMultibootHeader()) return 'raw';
  const foreign = FOREIGN.find(({ offset, bytes }) => startsWith(head, offset, bytes));
  if (foreign) throw imageError(source.name, foreign.is, { expected: foreign.expected });
  throw imageError(source.name, `it starts with ${describeStart(head)}, which is no kernel`, {
    expected: KERNELS,
  });
}

/** For an initrd that is really something else. Compressed archives and file-system images pass. */
export function checkInitrd(source: ByteSource): void {
  if (source.bytes === 0) {
    throw imageError(source.name, 'the file is empty', { expected: 'an initrd, which is a cpio archive' });
  }
  const head = readUpTo(source, 0, PROBE_BYTES);
  if (startsWith(head, 0, [0x7f, 0x45, 0x4c, 0x46]) || isBzImage(head)) {
    throw imageError(source.name, 'it is a kernel or program, given as --initrd', {
      expected: 'a cpio archive',
    });
  }
}

function isBzImage(head: Uint8Array): boolean {
  return (
    head.length >= 0x206 &&
    viewOf(head).getUint16(0x1fe, true) === 0xaa55 &&
    getAscii(head, 0x202, 4) === 'HdrS'
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
