/**
 * The handler of SIGSYS, in machine code because no JavaScript can run in a signal handler. It has two tasks,
 * told apart by si_code:
 *
 * - The kernel refused a system call (SYS_SECCOMP): the handler restores the terminal, names the call on
 *   stderr and ends the process.
 * - The signal was sent with tgkill: the handler makes the system calls of a table on the interrupted thread.
 *   Capabilities and Landlock belong to single threads, and this reaches threads of the runtime that run no
 *   code of Volt. They block most signals, but not this one.
 *
 * It accesses nothing but its own mapping and the stack of the interrupted thread.
 */
import { putAscii, putU64, TWO_POW_32, viewOf } from '../binary/bytes.ts';
import { SYSCALL_COUNT, SYSCALL_NAMES, syscallNumber } from './syscalls.ts';
import { CALL_ROW, TRAP_PAGE } from './trap-page.ts';

const SIGINFO = { code: 0x08, call: 0x18 } as const;
const SYS_SECCOMP = 1;
const TCSETS = 0x5402;
const IOVEC_BYTES = 16;
const UNKNOWN = 'of an unknown number';

export interface TrapText {
  readonly before: string;
  readonly after: string;
  readonly exitCode: number;
}

/** The contents of the mapping at `address`. */
export function buildTrapPage(address: number, text: TrapText): Uint8Array {
  const bytes = new Uint8Array(TRAP_PAGE.size);
  bytes.set(handlerCode(address, text.exitCode));
  putNames(bytes);
  putMessage(bytes, address, text);
  viewOf(bytes).setBigInt64(TRAP_PAGE.calls, -1n, true);
  return bytes;
}

function putNames(bytes: Uint8Array): void {
  const rows = new Uint32Array(bytes.buffer, TRAP_PAGE.names, 2 * (SYSCALL_COUNT + 1));
  let text = '';
  // One row more than there are calls, for higher numbers.
  for (let number = 0; number <= SYSCALL_COUNT; number++) {
    const name = SYSCALL_NAMES[number] ?? UNKNOWN;
    rows[2 * number] = TRAP_PAGE.nameTexts - TRAP_PAGE.names + text.length;
    rows[2 * number + 1] = name.length;
    text += name;
  }
  bytes.set(Buffer.from(text, 'latin1'), TRAP_PAGE.nameTexts);
}

function putMessage(bytes: Uint8Array, address: number, { before, after }: TrapText): void {
  const view = viewOf(bytes);
  const texts = [
    { row: 0, at: TRAP_PAGE.texts, text: before },
    { row: 2, at: TRAP_PAGE.texts + before.length, text: after },
  ];
  for (const { row, at, text } of texts) {
    putAscii(bytes, at, text);
    putU64(view, TRAP_PAGE.message + row * IOVEC_BYTES, address + at);
    putU64(view, TRAP_PAGE.message + row * IOVEC_BYTES + 8, text.length);
  }
}

/** void handler(int signal, siginfo_t *rsi, void *context); rt_sigreturn restores all registers. */
function handlerCode(address: number, exitCode: number): number[] {
  const table = makeCalls(address);
  return [
    ...[0x81, 0x7e, SIGINFO.code, ...u32(SYS_SECCOMP)], // cmp dword [rsi + si_code], SYS_SECCOMP
    ...[0x74, table.length], // je over the table
    ...table,
    ...reportCall(address, exitCode),
  ];
}

function makeCalls(address: number): number[] {
  const call = [
    ...[0x48, 0x8b, 0x7b, 0x08], // mov rdi, [rbx + 8]
    ...[0x48, 0x8b, 0x73, 0x10], // mov rsi, [rbx + 16]
    ...[0x48, 0x8b, 0x53, 0x18], // mov rdx, [rbx + 24]
    ...[0x4c, 0x8b, 0x53, 0x20], // mov r10, [rbx + 32]
    ...[0x4c, 0x8b, 0x43, 0x28], // mov r8, [rbx + 40]
    ...[0x0f, 0x05], // syscall
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x79, 13], // jns over the next two
    ...[0x49, 0xb9, ...u64(address + TRAP_PAGE.error)], // mov r9, error
    ...[0x41, 0x89, 0x01], // mov [r9], eax
    ...[0x48, 0x83, 0xc3, CALL_ROW.size], // add rbx, row
  ];
  const test = [
    ...[0x48, 0x8b, 0x03], // mov rax, [rbx]
    ...[0x48, 0x85, 0xc0], // test rax, rax
    ...[0x78, call.length + 2], // js out of the loop
  ];
  return [
    ...[0x48, 0xbb, ...u64(address + TRAP_PAGE.calls)], // mov rbx, calls
    ...test,
    ...call,
    ...[0xeb, 0x100 - (test.length + call.length + 2)], // jmp back to the test
    ...[0x49, 0xb9, ...u64(address + TRAP_PAGE.done)], // mov r9, done
    ...[0xf0, 0x41, 0xff, 0x01], // lock inc dword [r9]
    0xc3, // ret
  ];
}

function reportCall(address: number, exitCode: number): number[] {
  const restore = [
    ...moveEax(syscallNumber('ioctl')),
    ...[0x31, 0xff], // xor edi, edi
    ...[0xbe, ...u32(TCSETS)], // mov esi, TCSETS
    ...[0x49, 0x8d, 0x54, 0x24, TRAP_PAGE.termios - TRAP_PAGE.data], // lea rdx, [r12 + termios]
    ...[0x0f, 0x05], // syscall
  ];
  return [
    ...[0x8b, 0x5e, SIGINFO.call], // mov ebx, [rsi + si_syscall]
    ...[0x49, 0xbc, ...u64(address + TRAP_PAGE.data)], // mov r12, data
    ...[0x41, 0x83, 0x3c, 0x24, 0x00], // cmp dword [r12 + restoresTerminal], 0
    ...[0x74, restore.length], // je over it
    ...restore,
    ...[0x81, 0xfb, ...u32(SYSCALL_COUNT)], // cmp ebx, count
    ...[0x72, 5, 0xbb, ...u32(SYSCALL_COUNT)], // jb over: mov ebx, count
    ...[0x49, 0xbd, ...u64(address + TRAP_PAGE.names)], // mov r13, names
    ...[0x41, 0x8b, 0x44, 0xdd, 0x00], // mov eax, [r13 + rbx * 8]
    ...[0x41, 0x8b, 0x4c, 0xdd, 0x04], // mov ecx, [r13 + rbx * 8 + 4]
    ...[0x4c, 0x01, 0xe8], // add rax, r13
    ...[0x48, 0xbe, ...u64(address + TRAP_PAGE.message)], // mov rsi, message
    ...[0x48, 0x89, 0x46, IOVEC_BYTES], // mov [rsi + 16], rax
    ...[0x48, 0x89, 0x4e, IOVEC_BYTES + 8], // mov [rsi + 24], rcx
    ...[0xbf, ...u32(2)], // mov edi, stderr
    ...[0xba, ...u32(3)], // mov edx, 3
    ...moveEax(syscallNumber('writev')),
    ...[0x0f, 0x05], // syscall
    ...[0xbf, ...u32(exitCode)], // mov edi, exit code
    ...moveEax(syscallNumber('exit_group')),
    ...[0x0f, 0x05], // syscall
    ...[0x0f, 0x0b], // ud2
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
