/**
 * Machine code of a copy thread, which moves chunks between memory and files, and the table that its job's
 * threads share with the main thread. Pure. (System V ABI, AMD64 §3.2.3 and §A.2; Linux asm/unistd_64.h)
 */
import { ERRNO } from './errno.ts';
import { PR_SET_NAME } from './thread.ts';

/** One table per job. The main thread fills it before it starts the threads. */
export const COPY_JOB = {
  /** u64: address of the chunks. */
  chunks: 0x00,
  /** u64: number of chunks. */
  count: 0x08,
  /** u64: index of the next chunk that no thread has taken. */
  cursor: 0x10,
  /** u64: not 0 makes the threads end, after the system call that they are in. */
  stop: 0x18,
  /** i64: -errno of the first call that failed; -EIO for one that moved nothing. */
  error: 0x20,
  /** u64: bytes of the chunks that are dealt with, zero pages included. */
  done: 0x28,
  /** u64: bytes that were read or written. */
  moved: 0x30,
  /** Socket to which the last thread writes a byte. */
  notifyFd: 0x38,
  /** u32: threads that have not ended. The last access of a thread to this table and to memory. */
  running: 0x3c,
  /** Thread name: 16 bytes, NUL-terminated. */
  name: 0x40,
  size: 0x50,
} as const;

export const COPY_CHUNK = {
  /** u64: host address, of a page unless COPY_FLAG.whole is set. */
  host: 0x00,
  /** u64: length; whole pages unless COPY_FLAG.whole is set. Below 2 GiB. */
  bytes: 0x08,
  /** u64: offset in the file. */
  offset: 0x10,
  fd: 0x18,
  flags: 0x1c,
  size: 0x20,
} as const;

/** `read`: from the file to memory. `whole`: zero pages too, which otherwise are skipped. */
export const COPY_FLAG = { read: 1, whole: 2 } as const;

const CALL = { write: 1, pread: 17, pwrite: 18, prctl: 157 } as const;
/** Second opcode byte of the near conditional jumps. */
const IF = { aboveOrEqual: 0x83, below: 0x82, equal: 0x84, notEqual: 0x85, greater: 0x8f } as const;

/** Bytes, a label that others jump to, or a jump with its opcode. */
type Part = readonly number[] | string | { readonly opcode: readonly number[]; readonly to: string };

const jump = (to: string): Part => ({ opcode: [0xe9], to });
const jumpIf = (condition: number, to: string): Part => ({ opcode: [0x0f, condition], to });
const call = (to: string): Part => ({ opcode: [0xe8], to });
const moveEax = (value: number) => [0xb8, ...u32(value)];

/** void *copy(struct job *job): takes chunk after chunk until there is none, one fails, or `stop` is set. */
export function copyThreadCode(): Uint8Array {
  const J = COPY_JOB;
  const C = COPY_CHUNK;
  return assemble([
    'start',
    [0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57], // push rbx, rbp, r12, r13, r14, r15
    [0x48, 0x89, 0xfb], // mov rbx, rdi
    moveEax(CALL.prctl),
    [0xbf, ...u32(PR_SET_NAME)], // mov edi, PR_SET_NAME
    [0x48, 0x8d, 0x73, J.name], // lea rsi, [rbx + name]
    [0x0f, 0x05], // syscall
    'next',
    [0x48, 0x83, 0x7b, J.stop, 0x00], // cmp qword [rbx + stop], 0
    jumpIf(IF.notEqual, 'out'),
    moveEax(1),
    [0xf0, 0x48, 0x0f, 0xc1, 0x43, J.cursor], // lock xadd [rbx + cursor], rax
    [0x48, 0x3b, 0x43, J.count], // cmp rax, [rbx + count]
    jumpIf(IF.aboveOrEqual, 'out'),
    [0x48, 0xc1, 0xe0, Math.log2(C.size)], // shl rax, log2(chunk)
    [0x48, 0x03, 0x03], // add rax, [rbx + chunks]
    [0x49, 0x89, 0xc7], // mov r15, rax
    [0x4d, 0x8b, 0x27], // mov r12, [r15 + host]
    [0x4d, 0x8b, 0x6f, C.bytes], // mov r13, [r15 + bytes]
    [0x4d, 0x8b, 0x77, C.offset], // mov r14, [r15 + offset]
    'piece',
    [0x4d, 0x85, 0xed], // test r13, r13
    jumpIf(IF.equal, 'next'),
    [0x48, 0x83, 0x7b, J.stop, 0x00], // cmp qword [rbx + stop], 0
    jumpIf(IF.notEqual, 'out'),
    [0x4c, 0x89, 0xed], // mov rbp, r13
    [0x41, 0xf7, 0x47, C.flags, ...u32(COPY_FLAG.whole)], // test dword [r15 + flags], whole
    jumpIf(IF.notEqual, 'transfer'),
    [0x31, 0xed], // xor ebp, ebp
    call('isZero'),
    jumpIf(IF.notEqual, 'data'),
    [0x49, 0x81, 0xc4, ...u32(0x1000)], // add r12, 0x1000
    [0x49, 0x81, 0xed, ...u32(0x1000)], // sub r13, 0x1000
    [0x49, 0x81, 0xc6, ...u32(0x1000)], // add r14, 0x1000
    [0xf0, 0x48, 0x81, 0x43, J.done, ...u32(0x1000)], // lock add qword [rbx + done], 0x1000
    jump('piece'),
    'data', // RBP counts the bytes up to the next zero page
    [0x48, 0x81, 0xc5, ...u32(0x1000)], // add rbp, 0x1000
    [0x4c, 0x39, 0xed], // cmp rbp, r13
    jumpIf(IF.aboveOrEqual, 'transfer'),
    call('isZero'),
    jumpIf(IF.notEqual, 'data'),
    'transfer',
    [0x41, 0x8b, 0x7f, C.fd], // mov edi, [r15 + fd]
    [0x4c, 0x89, 0xe6], // mov rsi, r12
    [0x48, 0x89, 0xea], // mov rdx, rbp
    [0x4d, 0x89, 0xf2], // mov r10, r14
    moveEax(CALL.pwrite),
    [0x41, 0xf7, 0x47, C.flags, ...u32(COPY_FLAG.read)], // test dword [r15 + flags], read
    jumpIf(IF.equal, 'enter'),
    moveEax(CALL.pread),
    'enter',
    [0x0f, 0x05], // syscall
    [0x48, 0x85, 0xc0], // test rax, rax
    jumpIf(IF.greater, 'moved'),
    [0x48, 0x83, 0xf8, -ERRNO.EINTR & 0xff], // cmp rax, -EINTR
    jumpIf(IF.equal, 'transfer'),
    [0x48, 0x85, 0xc0], // test rax, rax
    jumpIf(IF.notEqual, 'failed'),
    [0x48, 0xc7, 0xc0, ...u32(-ERRNO.EIO)], // mov rax, -EIO
    'failed',
    [0x48, 0x89, 0xc1], // mov rcx, rax
    [0x31, 0xc0], // xor eax, eax
    [0xf0, 0x48, 0x0f, 0xb1, 0x4b, J.error], // lock cmpxchg [rbx + error], rcx
    [0x48, 0xc7, 0x43, J.stop, ...u32(1)], // mov qword [rbx + stop], 1
    jump('out'),
    'moved',
    [0x49, 0x01, 0xc4], // add r12, rax
    [0x49, 0x29, 0xc5], // sub r13, rax
    [0x49, 0x01, 0xc6], // add r14, rax
    [0xf0, 0x48, 0x01, 0x43, J.done], // lock add [rbx + done], rax
    [0xf0, 0x48, 0x01, 0x43, J.moved], // lock add [rbx + moved], rax
    [0x48, 0x29, 0xc5], // sub rbp, rax
    jumpIf(IF.notEqual, 'transfer'),
    jump('piece'),
    'out',
    [0x8b, 0x7b, J.notifyFd], // mov edi, [rbx + notifyFd]
    [0xf0, 0xff, 0x4b, J.running], // lock dec dword [rbx + running]
    jumpIf(IF.notEqual, 'end'),
    // The table may be unmapped from here on: the byte that is written is one of this code.
    { opcode: [0x48, 0x8d, 0x35], to: 'start' }, // lea rsi, [rip + start]
    [0xba, ...u32(1)], // mov edx, 1
    moveEax(CALL.write),
    [0x0f, 0x05], // syscall
    'end',
    [0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b], // pop r15, r14, r13, r12, rbp, rbx
    [0x31, 0xc0, 0xc3], // xor eax, eax; ret
    'isZero', // sets the zero flag if the page at R12 + RBP is all zeroes
    [0x49, 0x8d, 0x04, 0x2c], // lea rax, [r12 + rbp]
    [0x48, 0x8d, 0x88, ...u32(0x1000)], // lea rcx, [rax + 0x1000]
    [0x66, 0x0f, 0xef, 0xc9], // pxor xmm1, xmm1
    'line',
    [0x66, 0x0f, 0x6f, 0x00], // movdqa xmm0, [rax]
    [0x66, 0x0f, 0xeb, 0x40, 0x10], // por xmm0, [rax + 16]
    [0x66, 0x0f, 0xeb, 0x40, 0x20], // por xmm0, [rax + 32]
    [0x66, 0x0f, 0xeb, 0x40, 0x30], // por xmm0, [rax + 48]
    [0x66, 0x0f, 0x74, 0xc1], // pcmpeqb xmm0, xmm1
    [0x66, 0x0f, 0xd7, 0xd0], // pmovmskb edx, xmm0
    [0x81, 0xfa, ...u32(0xffff)], // cmp edx, 0xffff
    jumpIf(IF.notEqual, 'known'),
    [0x48, 0x83, 0xc0, 64], // add rax, 64
    [0x48, 0x39, 0xc8], // cmp rax, rcx
    jumpIf(IF.below, 'line'),
    [0x39, 0xc0], // cmp eax, eax
    'known',
    [0xc3], // ret
  ]);
}

/** Jumps are relative to the instruction that follows, by 32 bits. */
function assemble(parts: readonly Part[]): Uint8Array {
  const labels = new Map<string, number>();
  let size = 0;
  for (const part of parts) {
    if (typeof part === 'string') labels.set(part, size);
    else size += 'to' in part ? part.opcode.length + 4 : part.length;
  }
  const code: number[] = [];
  for (const part of parts) {
    if (typeof part === 'string') continue;
    if ('to' in part) {
      code.push(...part.opcode);
      code.push(...u32(labels.get(part.to)! - (code.length + 4)));
    } else {
      code.push(...part);
    }
  }
  return Uint8Array.from(code);
}

function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}
