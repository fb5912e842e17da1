/**
 * A process of its own for tests: enters the sandbox as one class of thread and asks the kernel about system
 * calls, none of which is carried out. Reads rows of a number and six arguments as JSON from stdin and prints
 * the verdicts: `allow`, `trap`, or the errno that the filter sets.
 *
 * A filter from before the sandbox lets every call from one page of code fail with PROBE_ERRNO. Of several
 * filters' verdicts the kernel takes the strictest, and a trap is stricter than an errno: what the sandbox
 * allows fails with that errno, and what it refuses raises SIGSYS. (Linux
 * Documentation/userspace-api/seccomp_filter.rst)
 *
 * Usage: bun probe-calls.ts CLASS DEVICE,DEVICE < ROWS
 */
import { CFunction } from 'bun:ffi';
import { getU64, putU64, viewOf } from '../../src/binary/bytes.ts';
import { arrayBufferAt, addressOf, libc } from '../../src/ffi/libc.ts';
import { MAP, mapMemory, PROT } from '../../src/ffi/mapping.ts';
import { installFilter, placeFilter } from '../../src/ffi/sandbox.ts';
import { INSTRUCTION, OPCODE, VERDICT } from '../../src/sandbox/filter.ts';
import { enterSandbox } from '../../src/vmm/sandbox.ts';

const PAGE_BYTES = 4096;
const HANDLER_AT = PAGE_BYTES / 2;
const SIGSYS = 31;
const SYS_SECCOMP = 1;
/** No errno of Linux. */
const PROBE_ERRNO = 3333;
const TRAPPED = -4000;
/** uc_mcontext.gregs[REG_RAX] in a ucontext_t. (sys/ucontext.h) */
const CONTEXT_RAX = 144;
const INSTRUCTION_POINTER = 8;
const ROW_WORDS = 8;

const [of = 'process', devices = ''] = process.argv.slice(2);
const rows = (await Bun.stdin.json()) as (number | string)[][];

const page = mapMemory({
  bytes: PAGE_BYTES,
  prot: PROT.read | PROT.write,
  flags: MAP.private | MAP.anonymous,
  what: 'probe',
});
const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/**
 * void handler(int, siginfo_t *rsi, void *rdx): a refused call returns TRAPPED; sent signals are the
 * sandbox's.
 */
const handler = (ofSandbox: number) => [
  ...[0x81, 0x7e, 0x08, ...u32(SYS_SECCOMP), 0x75, 12], // cmp dword [rsi + si_code], SYS_SECCOMP; jne
  ...[0x48, 0xc7, 0x82, ...u32(CONTEXT_RAX), ...u32(TRAPPED), 0xc3], // mov qword [rdx + rax], TRAPPED; ret
  ...[0x48, 0xb8, ...u32(ofSandbox % 2 ** 32), ...u32(Math.floor(ofSandbox / 2 ** 32))], // mov rax, ofSandbox
  ...[0xff, 0xe0], // jmp rax
];
/** void probe(u64 *rdi): number and six arguments; the result goes to the eighth word. */
const probe = [
  ...[0x53, 0x48, 0x89, 0xfb], // push rbx; mov rbx, rdi
  ...[0x48, 0x8b, 0x03], // mov rax, [rbx]
  ...[0x48, 0x8b, 0x7b, 0x08, 0x48, 0x8b, 0x73, 0x10, 0x48, 0x8b, 0x53, 0x18], // rdi, rsi, rdx
  ...[0x4c, 0x8b, 0x53, 0x20, 0x4c, 0x8b, 0x43, 0x28, 0x4c, 0x8b, 0x4b, 0x30], // r10, r8, r9
  ...[0x0f, 0x05], // syscall
  ...[0x48, 0x89, 0x43, 0x38, 0x5b, 0xc3], // mov [rbx + 56], rax; pop rbx; ret
];
const code = new Uint8Array(arrayBufferAt(page, PAGE_BYTES));
code.set(probe);
// The sandbox installs its handler and then forbids to replace it: ours takes its place on the way.
const { sigaction } = libc;
libc.sigaction = ((signal: number, action: Uint8Array, old: null) => {
  if (signal !== SIGSYS) return sigaction(signal, action, old);
  const fields = viewOf(action);
  code.set(handler(getU64(fields, 0)), HANDLER_AT);
  libc.mprotect(page, PAGE_BYTES, PROT.read | PROT.execute);
  putU64(fields, 0, page + HANDLER_AT);
  return sigaction(signal, action, old);
}) as never;
const ask = CFunction({ ptr: page as never, args: ['ptr'], returns: 'void' });

installFilter(placeFilter(failCallsOf(page)), 'all');
const kinds = new Set(devices.split(','));
const { filters } = enterSandbox({
  cpus: 1,
  reads: [],
  writes: [],
  removesIn: [],
  connections: 0,
  devices: kinds,
});
if (of === 'vcpu' || of === 'device') installFilter(filters![of], 'this');

const words = new BigInt64Array(ROW_WORDS);
const verdicts = rows.map((row) => {
  words.fill(0n);
  row.forEach((value, i) => (words[i] = value === 'pid' ? BigInt(process.pid) : BigInt(value)));
  ask(addressOf(words) as never);
  const result = Number(words[ROW_WORDS - 1]);
  return result === TRAPPED ? 'trap' : result === -PROBE_ERRNO ? 'allow' : -result;
});
await Bun.write(Bun.stdout, JSON.stringify(verdicts));

/** Calls made from one page fail, all others are allowed. */
function failCallsOf(address: number): Uint8Array {
  const program = [
    [OPCODE.load, 0, 0, INSTRUCTION_POINTER],
    [OPCODE.and, 0, 0, ~(PAGE_BYTES - 1)],
    [OPCODE.jumpEqual, 0, 3, address % 2 ** 32],
    [OPCODE.load, 0, 0, INSTRUCTION_POINTER + 4],
    [OPCODE.jumpEqual, 0, 1, Math.floor(address / 2 ** 32)],
    [OPCODE.ret, 0, 0, VERDICT.errno | PROBE_ERRNO],
    [OPCODE.ret, 0, 0, VERDICT.allow],
  ] as const;
  const bytes = new Uint8Array(program.length * INSTRUCTION.size);
  program.forEach(([code, jumpTrue, jumpFalse, k], i) => {
    const view = viewOf(bytes.subarray(i * INSTRUCTION.size));
    view.setUint16(INSTRUCTION.code, code, true);
    view.setUint8(INSTRUCTION.jumpTrue, jumpTrue);
    view.setUint8(INSTRUCTION.jumpFalse, jumpFalse);
    view.setUint32(INSTRUCTION.k, k >>> 0, true);
  });
  return bytes;
}
