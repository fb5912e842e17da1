/**
 * Ends the process with a line when a mapped file no longer has the page that someone accesses: it was truncated,
 * or its disk fails. The kernel then raises SIGBUS, whose handler is machine code, because no JavaScript can run in
 * one. It accesses nothing but its own mapping. (mmap(2), sigaction(2))
 */
import { putU64, TWO_POW_32, viewOf } from '../binary/bytes.ts';
import { arrayBufferAt, checked, libc, type HostPointer } from './libc.ts';
import { MAP, mapMemory, PROT } from './mapping.ts';
import { SIGACTION, SIGNAL_ACTION, installSignalHandler } from './signal.ts';

const SIGBUS = 7;
const SIGINFO_ADDRESS = 0x10;
const CALL = { write: 1, rtSigaction: 13, ioctl: 16, exitGroup: 231 } as const;
const TCGETS = 0x5401;
const TCSETS = 0x5402;
const STDIN = 0;

/** Code, then data that is readable and writable. */
const PAGE = {
  /** Pairs of u64: start and end of each guarded range; 0 and 0 for none. */
  ranges: 0x1000,
  /** u32: 1 if `termios` is to be restored on fd 0. */
  restoresTerminal: 0x1400,
  /** u32: length of the text. */
  textBytes: 0x1404,
  /** struct termios of the kernel, 36 bytes. */
  termios: 0x1410,
  /** struct kernel_sigaction of zeroes: SIG_DFL. */
  defaultAction: 0x1440,
  text: 0x1500,
  size: 0x2000,
} as const;
const MOST_RANGES = (PAGE.restoresTerminal - PAGE.ranges) / 16;
const EXIT_CODE = 1;

let page: Uint8Array | undefined;

/**
 * Guards [host, host + bytes), which is mapped from a file, until the returned function is called. `line` is what
 * is written to stderr then. Ranges beyond 64 are not guarded. Throws SyscallError.
 */
export function guardMappedFile(host: HostPointer, bytes: number, line: string): () => void {
  const { buffer, byteOffset } = (page ??= installHandler());
  const view = new DataView(buffer, byteOffset, PAGE.size);
  const text = Buffer.from(`${line}\n`).subarray(0, PAGE.size - PAGE.text);
  new Uint8Array(buffer, byteOffset).set(text, PAGE.text);
  view.setUint32(PAGE.textBytes, text.length, true);
  const row = Array.from({ length: MOST_RANGES }, (_, i) => PAGE.ranges + 16 * i).find(
    (at) => view.getBigUint64(at + 8, true) === 0n,
  );
  if (row === undefined) return () => {};
  putU64(view, row, host);
  putU64(view, row + 8, host + bytes);
  return () => putU64(view, row + 8, 0);
}

function installHandler(): Uint8Array {
  const address = mapMemory({
    bytes: PAGE.size,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'the handler of SIGBUS',
  });
  // SAFETY: just mapped and never unmapped; the first page is not written again.
  const bytes = new Uint8Array(arrayBufferAt(address, PAGE.size));
  const view = viewOf(bytes);
  const earlier = new Uint8Array(SIGACTION.size);
  checked(libc.sigaction(SIGBUS, null, earlier), 'sigaction');
  bytes.set(handlerCode(address, viewOf(earlier).getBigUint64(SIGACTION.handler, true)));
  // SAFETY: the kernel writes its struct termios of 36 bytes.
  const termios = bytes.subarray(PAGE.termios, PAGE.defaultAction);
  if (libc.ioctl(STDIN, TCGETS, termios) === 0) view.setUint32(PAGE.restoresTerminal, 1, true);
  checked(libc.mprotect(address, PAGE.ranges, PROT.read | PROT.execute), 'mprotect');
  const { sigInfo, restart } = SIGNAL_ACTION;
  // SAFETY: the page stays mapped, and its code runs no JavaScript.
  installSignalHandler(SIGBUS, address, sigInfo | restart);
  return bytes;
}

/**
 * void handler(int signal, siginfo_t *info, void *context): for an address in a guarded range it ends the process,
 * for others it goes on in the earlier handler, or with the default action at the next attempt.
 */
function handlerCode(address: number, earlier: bigint): number[] {
  const restore = [
    ...moveEax(CALL.ioctl),
    ...[0x31, 0xff], // xor edi, edi
    ...[0xbe, ...u32(TCSETS)], // mov esi, TCSETS
    ...[0x48, 0xba, ...u64(address + PAGE.termios)], // mov rdx, termios
    ...[0x0f, 0x05], // syscall
  ];
  const end = [
    ...[0x49, 0xb8, ...u64(address + PAGE.restoresTerminal)], // mov r8, restoresTerminal
    ...[0x41, 0x83, 0x38, 0x00], // cmp dword [r8], 0
    ...[0x74, restore.length], // je over it
    ...restore,
    ...[0xbf, ...u32(2)], // mov edi, stderr
    ...[0x48, 0xbe, ...u64(address + PAGE.text)], // mov rsi, text
    ...[0x49, 0xb8, ...u64(address + PAGE.textBytes)], // mov r8, textBytes
    ...[0x41, 0x8b, 0x10], // mov edx, [r8]
    ...moveEax(CALL.write),
    ...[0x0f, 0x05], // syscall
    ...[0xbf, ...u32(EXIT_CODE)], // mov edi, exit code
    ...moveEax(CALL.exitGroup),
    ...[0x0f, 0x05], // syscall
  ];
  const test = [
    ...[0x49, 0x3b, 0x08], // cmp rcx, [r8]
    ...[0x72, 6], // jb over the next two
    ...[0x49, 0x3b, 0x48, 0x08], // cmp rcx, [r8 + 8]
    ...[0x72, 13], // jb to the end of the process
    ...[0x49, 0x83, 0xc0, 16], // add r8, 16
    ...[0x4d, 0x39, 0xc8], // cmp r8, r9
  ];
  return [
    ...[0x48, 0x8b, 0x4e, SIGINFO_ADDRESS], // mov rcx, [rsi + si_addr]
    ...[0x49, 0xb8, ...u64(address + PAGE.ranges)], // mov r8, ranges
    ...[0x49, 0xb9, ...u64(address + PAGE.ranges + 16 * MOST_RANGES)], // mov r9, end of ranges
    ...test,
    ...[0x72, 0x100 - (test.length + 2)], // jb back to the test
    ...[0xeb, end.length + 2, 0x90, 0x90], // jmp over the end of the process
    ...end,
    ...(earlier > 1n ? goOn(earlier) : useDefault(address)),
  ];
}

function goOn(handler: bigint): number[] {
  return [
    ...[0x48, 0xb8, ...u64(Number(handler))], // mov rax, handler
    ...[0xff, 0xe0], // jmp rax
  ];
}

/** rt_sigaction(SIGBUS, SIG_DFL); the access is tried again, and ends the process. */
function useDefault(address: number): number[] {
  return [
    ...[0xbf, ...u32(SIGBUS)], // mov edi, SIGBUS
    ...[0x48, 0xbe, ...u64(address + PAGE.defaultAction)], // mov rsi, action
    ...[0x31, 0xd2], // xor edx, edx
    ...[0x41, 0xba, ...u32(8)], // mov r10d, sizeof(sigset_t)
    ...moveEax(CALL.rtSigaction),
    ...[0x0f, 0x05], // syscall
    0xc3, // ret
  ];
}

function moveEax(value: number): number[] {
  return [0xb8, ...u32(value)];
}

function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

function u64(value: number): number[] {
  return [...u32(value % TWO_POW_32), ...u32(Math.floor(value / TWO_POW_32))];
}
