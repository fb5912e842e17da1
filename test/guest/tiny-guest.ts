/** Tiny guests for real vCPUs: machine code in an ELF with a PVH note, entered in 32-bit protected mode. */
import { putAscii, viewOf } from '../../src/binary/bytes.ts';

export const LOAD_ADDRESS = 0x10_0000;
const HEADER_BYTES = 0x1000;
const NOTE_OFFSET = 0x200;
const NOTE_BYTES = 0x14;
const COM1 = 0x3f8;

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

/** Parts of guest programs, by what they do. All 32-bit code that means the same in 64-bit mode, but for `abs32`. */
export const asm = {
  /** out(port, value) of one byte */
  out8: (port: number, value: number) => [0xb0, value, 0xba, ...u32(port), 0xee],
  /** out(port, value) of two bytes */
  out16: (port: number, value: number) => [0xb8, ...u32(value), 0xba, ...u32(port), 0x66, 0xef],
  /** out(port, value) of four bytes */
  out32: (port: number, value: number) => [0xb8, ...u32(value), 0xba, ...u32(port), 0xef],
  /** AL, AX or EAX = in(port) */
  in8: (port: number) => [0xba, ...u32(port), 0xec],
  in16: (port: number) => [0xba, ...u32(port), 0x66, 0xed],
  in32: (port: number) => [0xba, ...u32(port), 0xed],
  /** EAX = value */
  loadEax: (value: number) => [0xb8, ...u32(value)],
  /** EAX = dword at an address (abs32) */
  readEax: (address: number) => [0xa1, ...u32(address)],
  /** Byte at an address = AL (abs32) */
  storeAl: (address: number) => [0xa2, ...u32(address)],
  /** Dword at an address = EAX (abs32) */
  storeEax: (address: number) => [0xa3, ...u32(address)],
  /** Prints text on COM1, byte by byte. */
  print: (text: string) => [...text].flatMap((c) => asm.out8(COM1, c.charCodeAt(0))),
  /** Prints a character many times, in a loop. */
  printAgain: (character: string, count: number) => [
    ...[0xba, ...u32(COM1), 0xb0, character.charCodeAt(0), 0xb9, ...u32(count)],
    ...[0xee, 0xe2, 0xfd], // out dx, al; loop
  ],
  /** Prints the lowest `bytes` bytes of EAX as they are, lowest first. */
  printEax: (bytes: number) =>
    Array.from({ length: bytes }, () => [0xba, ...u32(COM1), 0xee, 0xc1, 0xe8, 0x08]).flat(),
  /** Prints memory as it is: rep outsb. */
  printMemory: (address: number, bytes: number) => [
    ...[0xbe, ...u32(address), 0xb9, ...u32(bytes), 0xba, ...u32(COM1)],
    ...[0xfc, 0xf3, 0x6e],
  ],
  /** Does `body` again and again. */
  forEver: (body: readonly number[]) => [...body, 0xe9, ...u32(-(body.length + 5))],
  /** Does `body`, and again as long as it leaves the zero flag clear. */
  untilZero: (body: readonly number[]) => [...body, 0x0f, 0x85, ...u32(-(body.length + 6))],
  /** Skips `body` when the zero flag is clear. */
  ifZero: (body: readonly number[]) => [0x0f, 0x85, ...u32(body.length), ...body],
  /** Ends the guest with a status. */
  exit: (status: number) => asm.out32(0xf4, status),
  /** cli; hlt; jmp back */
  halt: () => [0xfa, 0xf4, 0xeb, 0xfd],
  /** jmp to itself */
  spin: () => [0xeb, 0xfe],
} as const;

const END_OF_TRANSMISSION = 0x04;

/** Sends every byte it receives back, and ends the guest with status 0 after a Ctrl-D (which it does not send). */
export function echoGuest(): Uint8Array {
  const waitForByte = asm.untilZero([...asm.in8(COM1 + 5), 0x24, 0x01, 0x34, 0x01]); // and al, 1; xor al, 1
  const quitAtEnd = [0x3c, END_OF_TRANSMISSION, ...asm.ifZero(asm.exit(0))]; // cmp al, 4
  const echo = [...waitForByte, ...asm.in8(COM1), ...quitAtEnd, 0xee]; // out dx, al
  return program(asm.print('ready\n'), asm.forEver(echo));
}

export function program(...parts: readonly (readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flat());
}

export function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
