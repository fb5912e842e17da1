/**
 * Container formats of disk images, by their magic numbers. Volt itself supports raw images only. A guest that
 * writes to a container as if it were a raw disk destroys it.
 */

interface Magic {
  readonly name: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** How to make a raw image of it. */
  readonly advice: string;
}

const ascii = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const convert = (format: string) => `convert it: qemu-img convert -f ${format} -O raw`;
const give = (format: string) => `add format=${format}`;

/** Sources: docs/interop/qcow2.txt and qed_spec.txt of QEMU, VMDK 5.0, MS-VHDX 2.2.1, VHD 1.0, VDICore.h. */
const MAGICS: readonly Magic[] = [
  { name: 'qcow2', offset: 0, bytes: ascii('QFI\xfb'), advice: give('qcow2') },
  { name: 'QED', offset: 0, bytes: ascii('QED\0'), advice: give('qed') },
  { name: 'VMDK', offset: 0, bytes: ascii('KDMV'), advice: give('vmdk') },
  { name: 'VMDK', offset: 0, bytes: ascii('COWD'), advice: give('vmdk') },
  { name: 'VMDK', offset: 0, bytes: ascii('# Disk DescriptorFile'), advice: give('vmdk') },
  { name: 'VHDX', offset: 0, bytes: ascii('vhdxfile'), advice: give('vhdx') },
  { name: 'VHD', offset: 0, bytes: ascii('conectix'), advice: give('vhd') },
  { name: 'VDI', offset: 0x40, bytes: Uint8Array.of(0x7f, 0x10, 0xda, 0xbe), advice: give('vdi') },
  { name: 'Parallels', offset: 0, bytes: ascii('WithoutFreeSpace'), advice: convert('parallels') },
  { name: 'Parallels', offset: 0, bytes: ascii('WithouFreSpacExt'), advice: convert('parallels') },
  {
    name: 'Volt overlay',
    offset: 0,
    bytes: ascii('VOLTOVL\n'),
    advice: 'give it as overlay=FILE of its base',
  },
  { name: 'gzip', offset: 0, bytes: Uint8Array.of(0x1f, 0x8b, 8), advice: 'unpack it: gunzip' },
  { name: 'xz', offset: 0, bytes: ascii('\xfd7zXZ\0'), advice: 'unpack it: unxz' },
  { name: 'zstd', offset: 0, bytes: Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd), advice: 'unpack it: unzstd' },
];

/** Bytes from the start of an image that `recogniseContainer` needs. */
export const IMAGE_HEAD_BYTES = 512;

/** The container format of an image that starts with `head`; undefined for a raw image. */
export function recogniseContainer(head: Uint8Array): { name: string; advice: string } | undefined {
  return MAGICS.find(({ offset, bytes }) => bytes.every((byte, i) => head[offset + i] === byte));
}
