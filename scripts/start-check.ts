/**
 * Gives a compiled Bun program a few instructions of its own in front of the runtime's, for what ends the runtime before
 * any JavaScript runs. Without /proc it aborts with a report of a crash: Volt says in one line what is missing. In a
 * working directory that was deleted it gives up: Volt goes on in /.
 *
 * They lie in a run of int3 instructions with which the compiler filled unused room, and the ELF header's entry point
 * leads to them; they go on to the runtime's own.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { EHDR, findSegment } from './elf-segments.ts';

const ROOT = '/';
const PATH = '/proc/self/exe';
const MESSAGE = 'volt: Cannot start: /proc is not mounted; mount it: mount -t proc proc /proc\n';
const EXIT_FAILED = 1;

const READ_EXECUTE = 5;
const INT3 = 0xcc;

/** System call numbers. (asm/unistd_64.h) */
const CALL = { write: 1, access: 21, getcwd: 79, chdir: 80, exitGroup: 231 } as const;
const ENOENT = 2;
const PAGE_BYTES = 4096;

/** Rewrites the file in place. Throws where it has no such room. */
export function addStartCheck(path: string): void {
  const fd = openSync(path, 'r+');
  try {
    const header = Buffer.alloc(EHDR.size);
    readSync(fd, header, 0, EHDR.size, 0);
    const entry = Number(header.readBigUInt64LE(EHDR.entry));
    const { offset, address, bytes } = findSegment(fd, READ_EXECUTE);
    const room = bytes.indexOf(Buffer.alloc(encodeStartCheck(0, 0).length + 2, INT3));
    if (room < 0)
      throw new Error(`Cannot seal ${path}: it has no unused room for code (expected Bun 1.4's layout)`);
    const code = encodeStartCheck(address + room + 1, entry);
    writeSync(fd, code, 0, code.length, offset + room + 1);
    header.writeBigUInt64LE(BigInt(address + room + 1), EHDR.entry);
    writeSync(fd, header, 0, EHDR.size, 0);
  } finally {
    closeSync(fd);
  }
}

/** The code at `address`, which goes on at `entry`. At a process's entry only RSP and RDX count. (System V ABI §3.4.1) */
function encodeStartCheck(address: number, entry: number): Buffer {
  const u32 = (value: number) => [...new Uint8Array(Int32Array.of(value).buffer)];
  const texts = Buffer.from(`${ROOT}\0${PATH}\0${MESSAGE}`, 'latin1');
  const pathAt = ROOT.length + 1;
  const messageAt = pathAt + PATH.length + 1;
  const encode = (textsAt: number): number[] => {
    const code: number[] = [];
    const put = (...bytes: number[]) => void code.push(...bytes);
    /** The distance from the end of the instruction, which is this field. */
    const relative = (target: number) => put(...u32(target - (address + code.length + 4)));
    put(0x52); // push rdx
    put(0xb8, ...u32(CALL.getcwd)); // mov eax, getcwd
    put(0x48, 0x8d, 0xbc, 0x24, ...u32(-2 * PAGE_BYTES)); // lea rdi, [rsp - 8192]: unused stack
    put(0xbe, ...u32(PAGE_BYTES)); // mov esi, 4096
    put(0x0f, 0x05); // syscall
    put(0x83, 0xf8, 0x100 - ENOENT); // cmp eax, -ENOENT
    put(0x75, 14); // jne past the next three
    put(0xb8, ...u32(CALL.chdir)); // mov eax, chdir
    put(0x48, 0x8d, 0x3d); // lea rdi, [rip + root]
    relative(textsAt);
    put(0x0f, 0x05); // syscall
    put(0xb8, ...u32(CALL.access)); // mov eax, access
    put(0x48, 0x8d, 0x3d); // lea rdi, [rip + path]
    relative(textsAt + pathAt);
    put(0x31, 0xf6); // xor esi, esi: F_OK
    put(0x0f, 0x05); // syscall
    put(0x5a); // pop rdx
    put(0x85, 0xc0); // test eax, eax
    put(0x0f, 0x84); // je entry
    relative(entry);
    put(0xb8, ...u32(CALL.write)); // mov eax, write
    put(0xbf, ...u32(2)); // mov edi, stderr
    put(0x48, 0x8d, 0x35); // lea rsi, [rip + message]
    relative(textsAt + messageAt);
    put(0xba, ...u32(MESSAGE.length)); // mov edx, length
    put(0x0f, 0x05); // syscall
    put(0xb8, ...u32(CALL.exitGroup)); // mov eax, exit_group
    put(0xbf, ...u32(EXIT_FAILED)); // mov edi, 1
    put(0x0f, 0x05); // syscall
    return code;
  };
  const { length } = encode(0);
  return Buffer.concat([Buffer.from(encode(address + length)), texts]);
}
