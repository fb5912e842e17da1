/** Loaded segments of a 64-bit ELF executable. (System V ABI, chapters 4 and 5) */
import { readSync } from 'node:fs';

export const EHDR = { entry: 0x18, programHeaders: 0x20, programHeaderCount: 0x38, size: 0x40 } as const;
const PHDR = { type: 0x00, flags: 0x04, offset: 0x08, address: 0x10, fileBytes: 0x20, size: 0x38 } as const;
const PT_LOAD = 1;

export interface Segment {
  readonly offset: number;
  readonly address: number;
  readonly bytes: Buffer;
}

/** The first loaded segment with these flags: 1 execute, 2 write, 4 read, added up. Throws where there is none. */
export function findSegment(fd: number, flags: number): Segment {
  const header = readBytes(fd, 0, EHDR.size);
  const at = Number(header.readBigUInt64LE(EHDR.programHeaders));
  for (let i = 0; i < header.readUInt16LE(EHDR.programHeaderCount); i++) {
    const entry = readBytes(fd, at + i * PHDR.size, PHDR.size);
    if (entry.readUInt32LE(PHDR.type) !== PT_LOAD || entry.readUInt32LE(PHDR.flags) !== flags) continue;
    const offset = Number(entry.readBigUInt64LE(PHDR.offset));
    const address = Number(entry.readBigUInt64LE(PHDR.address));
    return { offset, address, bytes: readBytes(fd, offset, Number(entry.readBigUInt64LE(PHDR.fileBytes))) };
  }
  throw new Error(
    `Cannot seal: the executable has no segment with flags ${flags} (expected the layout of Bun 1.4)`,
  );
}

function readBytes(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const got = readSync(fd, bytes, 0, length, offset);
  return bytes.subarray(0, got);
}
