/** Guests that do one thing, made of machine code. */
import { putAscii, putU64, viewOf } from '../src/binary/bytes.ts';
import { asm, LOAD_ADDRESS, program, u32 } from '../test/guest/tiny-guest.ts';

const COM1 = 0x3f8;
/**
 * Each VMM ends the guest at the first of these that it supports: Volt and QEMU (isa-debug-exit) at port 0xF4, Cloud Hypervisor at S5 by its sleep
 * control register at 0x600, Firecracker and the C loop at a reset by the keyboard controller.
 */
const end = [...asm.exit(0), ...asm.out8(0x600, 0x34), ...asm.out8(0x64, 0xfe), ...asm.halt()];

/** A 64-bit ELF with a PVH note, entered in 32-bit protected mode: the form that every peer takes. */
export function pvhElf(code: Uint8Array): Uint8Array {
  const file = new Uint8Array(0x1000 + code.length);
  const view = viewOf(file);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(0x10, 2, true); // ET_EXEC
  view.setUint16(0x12, 62, true); // EM_X86_64
  view.setUint32(0x14, 1, true);
  putU64(view, 0x18, LOAD_ADDRESS);
  putU64(view, 0x20, 0x40); // program headers
  view.setUint16(0x34, 0x40, true);
  view.setUint16(0x36, 0x38, true);
  view.setUint16(0x38, 2, true);
  const put = (at: number, type: number, offset: number, address: number, bytes: number) => {
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 7, true);
    [offset, address, address, bytes, bytes, 4].forEach((word, i) => putU64(view, at + 8 + 8 * i, word));
  };
  put(0x40, 1, 0x1000, LOAD_ADDRESS, code.length);
  put(0x78, 4, 0x200, 0, 0x14);
  view.setUint32(0x200, 4, true);
  view.setUint32(0x204, 4, true);
  view.setUint32(0x208, 18, true); // XEN_ELFNOTE_PHYS32_ENTRY
  putAscii(file, 0x20c, 'Xen');
  view.setUint32(0x210, LOAD_ADDRESS, true);
  file.set(code, 0x1000);
  return file;
}

/** Prints a byte and ends. */
export const tinyGuest = (): Uint8Array => program(asm.print('x'), end);

/** Prints a byte and halts forever. */
export const idleGuest = (): Uint8Array => program(asm.print('x'), asm.halt());

/** Prints a byte and spins forever. */
export const busyGuest = (): Uint8Array => program(asm.print('x'), asm.spin());

/** Writes to each page from 4 MiB on, and then prints 'y' without end. */
export function touchingGuest(memoryMib: number): Uint8Array {
  const [first, bytes] = [4 * 2 ** 20, (memoryMib - 4) * 2 ** 20];
  // mov [edi], edi; add edi, 4096; dec ecx; jnz
  const touch = [...[0x89, 0x3f, 0x81, 0xc7, ...u32(4096), 0x49], ...[0x75, 0xf5]];
  const port = [0xba, ...u32(COM1), 0xb0, 0x79];
  return program([0xbf, ...u32(first), 0xb9, ...u32(bytes / 4096)], touch, port, asm.forEver([0xee]));
}

const body32 = (count: number, body: readonly number[]) => {
  const loop = [...body, 0x49]; // dec ecx
  return [0xb9, ...u32(count), ...loop, 0x0f, 0x85, ...u32(-(loop.length + 6))];
};

/** Prints `bytes` times 'y', as fast as it can or, as drivers do, reading the line status register before each. */
export function printingGuest(bytes: number, polls: boolean): Uint8Array {
  const port = [0xba, ...u32(COM1)];
  const poll = [...[0xba, ...u32(COM1 + 5)], 0xec, 0xa8, 0x20, 0x74, 0xfb, ...port]; // test al, 0x20; jz
  const body = polls ? [...poll, 0xb0, 0x79, 0xee] : [0xee];
  return program(port, [0xb0, 0x79], body32(bytes, body), end);
}

/** Guest address of the samples of `exitGuest`. */
const SAMPLES = 0x20_0000;

/** Executes `access` `count` times between two RDTSC instructions and prints the differences, 4 bytes each. */
export function exitGuest(count: number, access: readonly number[]): Uint8Array {
  const rdtsc = [0x0f, 0x31];
  const body = [
    ...[...rdtsc, 0x89, 0xc6], // mov esi, eax
    ...access,
    ...[...rdtsc, 0x29, 0xf0], // sub eax, esi
    ...[0x89, 0x04, 0x8d, ...u32(SAMPLES - 4)], // mov [SAMPLES - 4 + 4 * ecx], eax
  ];
  return program(body32(count, body), asm.printMemory(SAMPLES, 4 * count), end);
}

/** One access each; EDX and EAX are free. */
export const access = {
  out8: (port: number) => asm.out8(port, 0),
  in8: (port: number) => asm.in8(port),
  writeMmio: (address: number) => asm.storeEax(address),
  readMmio: (address: number) => asm.readEax(address),
} as const;
