import { guestAddress } from '../machine/address.ts';
import type { FileLoad } from './boot-plan.ts';
import type { ElfImage } from './elf.ts';

/** Each segment of an ELF kernel at its physical address. */
export function elfLoads(image: ElfImage): FileLoad[] {
  return image.segments.map((segment, i) => ({
    name: `kernel-segment-${i}`,
    file: 'kernel',
    fileOffset: segment.fileOffset,
    fileBytes: segment.fileBytes,
    address: guestAddress(segment.physicalAddress),
    memoryBytes: segment.memoryBytes,
  }));
}
