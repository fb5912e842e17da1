import { describe, expect, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { checkInitrd, checkModule, recogniseImage } from '../../../src/boot/recognise.ts';
import { voltErrorOf } from '../support/errors.ts';
import { buildBzImage, buildElf } from './images.ts';

const KERNELS = 'an ELF vmlinux, a bzImage, or a PVH or Multiboot kernel';

function fileWith(offset: number, start: string | number[], bytes = 4096): Uint8Array {
  const file = new Uint8Array(bytes);
  file.set(typeof start === 'string' ? Buffer.from(start, 'latin1') : start, offset);
  return file;
}

const recognise = (bytes: Uint8Array, multiboot = false) =>
  recogniseImage(bytesAsSource('image', bytes), () => multiboot);
const messageFor = (bytes: Uint8Array) => voltErrorOf(() => recognise(bytes)).message;

test('ELF, bzImage and anything with a Multiboot header are kernels', () => {
  expect(recognise(buildElf())).toBe('elf');
  expect(recognise(buildBzImage())).toBe('bzimage');
  expect(recognise(fileWith(0, 'anything'), true)).toBe('raw');
});

test('a bzImage with an EFI stub, which starts with MZ, is a bzImage', () => {
  const image = buildBzImage();
  image.set(Buffer.from('MZ'));
  expect(recognise(image)).toBe('bzimage');
});

describe('what is no kernel is told by name, with what to do', () => {
  test.each([
    ['gzip', fileWith(0, [0x1f, 0x8b, 8]), 'it is gzip data; unpack the kernel with gzip -d'],
    ['xz', fileWith(0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), 'it is xz data; unpack the kernel with xz -d'],
    ['zstd', fileWith(0, [0x28, 0xb5, 0x2f, 0xfd]), 'it is zstd data; unpack the kernel with zstd -d'],
    ['bzip2', fileWith(0, 'BZh9'), 'it is bzip2 data; unpack the kernel with bzip2 -d'],
    ['legacy lz4', fileWith(0, [0x02, 0x21, 0x4c, 0x18]), 'it is lz4 data; unpack the kernel with lz4 -d'],
    ['lz4', fileWith(0, [0x04, 0x22, 0x4d, 0x18]), 'it is lz4 data; unpack the kernel with lz4 -d'],
    ['lzma', fileWith(0, [0x5d, 0, 0]), 'it is lzma data; unpack the kernel with xz -d --format=lzma'],
    ['lzop', fileWith(0, [0x89, 0x4c, 0x5a, 0x4f]), 'it is lzop data; unpack the kernel with lzop -d'],
    ['cpio', fileWith(0, '070701'), `it is a cpio archive; pass it as --initrd, and a kernel as --kernel`],
    [
      'Debian package',
      fileWith(0, '!<arch>\ndebian-binary'),
      `it is an ar archive or Debian package; unpack it with dpkg -x, and pass the kernel in it`,
    ],
    ['zip', fileWith(0, 'PK\x03\x04'), `it is a zip archive (expected ${KERNELS})`],
    ['qcow2', fileWith(0, 'QFI\xfb'), `it is a qcow2 disk image (expected ${KERNELS})`],
    ['script', fileWith(0, '#!/bin/sh\n'), `it is a script (expected ${KERNELS})`],
    ['tar', fileWith(257, 'ustar'), `it is a tar archive (expected ${KERNELS})`],
    ['arm64 Image', fileWith(0x38, 'ARM\x64'), 'it is an arm64 Linux Image; use a kernel for x86-64'],
    ['RISC-V Image', fileWith(0x38, 'RSC\x05'), 'it is a RISC-V Linux Image; use a kernel for x86-64'],
    [
      'EFI program',
      fileWith(0, 'MZ'),
      `it is an EFI or Windows program without a Linux setup header (expected ${KERNELS})`,
    ],
    [
      'text',
      fileWith(0, 'Hello, world'),
      `it starts with the text "Hello, w", which is not a kernel format (expected ${KERNELS})`,
    ],
    [
      'binary data',
      fileWith(0, [1, 2, 0xff]),
      `it starts with the bytes 01 02 ff 00 00 00 00 00, which is not a kernel format (expected ${KERNELS})`,
    ],
    [
      'a single byte',
      Uint8Array.of(0x41),
      `it starts with the text "A", which is not a kernel format (expected ${KERNELS})`,
    ],
    ['nothing', new Uint8Array(), `the file is empty (expected ${KERNELS})`],
  ])('%s', (_, bytes, message) => {
    expect(messageFor(bytes)).toBe(`Cannot load image: ${message}`);
  });

  test('an arm64 Image with an EFI stub is told by its architecture', () => {
    const image = fileWith(0x38, 'ARM\x64');
    image.set(Buffer.from('MZ'));
    expect(messageFor(image)).toContain('arm64 Linux Image');
  });
});

describe('an initrd', () => {
  const messageForInitrd = (bytes: Uint8Array) =>
    voltErrorOf(() => checkInitrd(bytesAsSource('initrd.img', bytes))).message;

  test('may be a cpio archive, a compressed one, or a file-system image', () => {
    const good = [fileWith(0, '070701'), fileWith(0, [0x1f, 0x8b]), fileWith(0x438, [0x53, 0xef])];
    expect(() => good.forEach((bytes) => checkInitrd(bytesAsSource('initrd.img', bytes)))).not.toThrow();
  });

  test('that is a kernel is told so', () => {
    const message = 'Cannot load initrd.img: it is a kernel or a program (expected a cpio archive)';
    expect(messageForInitrd(buildElf())).toBe(message);
    expect(messageForInitrd(buildBzImage())).toBe(message);
  });

  test('that is empty is told so', () => {
    const { message } = voltErrorOf(() => checkModule(bytesAsSource('initrd.img', new Uint8Array())));
    expect(message).toBe('Cannot load initrd.img: the file is empty (expected a cpio archive)');
  });
});
