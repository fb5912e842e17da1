/** Tiny guests for real vCPUs: machine code in an ELF with a PVH note, entered in 32-bit protected mode. */
import { putAscii, viewOf } from '../../src/binary/bytes.ts';

export const LOAD_ADDRESS = 0x10_0000;
const HEADER_BYTES = 0x1000;
const NOTE_OFFSET = 0x200;
const NOTE_BYTES = 0x14;

/** A 32-bit ELF with one segment at 1 MiB whose first byte is the entry. */
export function buildPvhElf(code: Uint8Array, memoryBytes: number = code.length): Uint8Array {
  const file = new Uint8Array(HEADER_BYTES + code.length);
  const view = viewOf(file);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  view.setUint16(0x10, 2, true); // ET_EXEC
  view.setUint16(0x12, 3, true); // EM_386
  view.setUint32(0x14, 1, true);
  view.setUint32(0x18, LOAD_ADDRESS, true);
  view.setUint32(0x1c, 0x34, true); // program headers
  view.setUint16(0x2a, 0x20, true);
  view.setUint16(0x2c, 2, true);
  putProgramHeader(view, 0x34, {
    type: 1,
    offset: HEADER_BYTES,
    address: LOAD_ADDRESS,
    fileBytes: code.length,
    memoryBytes,
  });
  putProgramHeader(view, 0x54, {
    type: 4,
    offset: NOTE_OFFSET,
    address: 0,
    fileBytes: NOTE_BYTES,
    memoryBytes: 0,
  });
  view.setUint32(NOTE_OFFSET, 4, true);
  view.setUint32(NOTE_OFFSET + 4, 4, true);
  view.setUint32(NOTE_OFFSET + 8, 18, true); // XEN_ELFNOTE_PHYS32_ENTRY
  putAscii(file, NOTE_OFFSET + 12, 'Xen');
  view.setUint32(NOTE_OFFSET + 16, LOAD_ADDRESS, true);
  file.set(code, HEADER_BYTES);
  return file;
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

function putProgramHeader(view: DataView, at: number, header: ProgramHeader): void {
  const { type, offset, address, fileBytes, memoryBytes } = header;
  [type, offset, address, address, fileBytes, memoryBytes, 7, 4].forEach((word, i) =>
    view.setUint32(at + 4 * i, word, true),
  );
}

/** Parts of guest programs, by what they do. All 32-bit code. */
export const asm = {
  /** out(port, value) of one byte */
  out8: (port: number, value: number) => [0xb0, value, 0xba, ...u32(port), 0xee],
  /** out(port, value) of four bytes */
  out32: (port: number, value: number) => [0xb8, ...u32(value), 0xba, ...u32(port), 0xef],
  /** Prints text on COM1, byte by byte. */
  print: (text: string) => [...text].flatMap((c) => asm.out8(0x3f8, c.charCodeAt(0))),
  /** Ends the guest with a status. */
  exit: (status: number) => asm.out32(0xf4, status),
  /** cli; hlt; jmp back */
  halt: () => [0xfa, 0xf4, 0xeb, 0xfd],
  /** jmp to itself */
  spin: () => [0xeb, 0xfe],
} as const;

export function program(...parts: readonly (readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flat());
}

export function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
