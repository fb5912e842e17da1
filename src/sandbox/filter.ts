/**
 * seccomp filters as classic BPF, from the rules. (Linux: Documentation/userspace-api/seccomp_filter.rst, uapi
 * linux/bpf_common.h, linux/seccomp.h)
 */
import { viewOf } from '../binary/bytes.ts';
import { SYSCALL_RULES, type ArgumentTest, type SyscallRule, type ThreadClass } from './rules.ts';
import { syscallNumber } from './syscalls.ts';

/** struct sock_filter */
export const INSTRUCTION = { code: 0, jumpTrue: 2, jumpFalse: 3, k: 4, size: 8 } as const;

/** BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K */
export const OPCODE = { load: 0x20, jumpEqual: 0x15, jumpAtLeast: 0x35, and: 0x54, ret: 0x06 } as const;

/** struct seccomp_data; each argument has 8 bytes, lower half first. */
export const SECCOMP_DATA = { number: 0, architecture: 4, arguments: 16, size: 64 } as const;

export const VERDICT = { allow: 0x7fff_0000, trap: 0x0003_0000, errno: 0x0005_0000 } as const;

export const AUDIT_ARCH_X86_64 = 0xc000_003e;
/** Numbers from here on are of the x32 ABI, which Volt does not use. */
export const X32_BIT = 0x4000_0000;

interface Instruction {
  readonly code: number;
  readonly k: number;
  readonly jumpTrue?: number;
  readonly jumpFalse?: number;
}

const load = (k: number): Instruction => ({ code: OPCODE.load, k });
const ret = (k: number): Instruction => ({ code: OPCODE.ret, k });

/** The program for threads of a class, as an array of struct sock_filter. What no rule lets through traps. */
export function buildFilter(of: ThreadClass): Uint8Array {
  const program: Instruction[] = [
    load(SECCOMP_DATA.architecture),
    { code: OPCODE.jumpEqual, k: AUDIT_ARCH_X86_64, jumpTrue: 1, jumpFalse: 0 },
    ret(VERDICT.trap),
    load(SECCOMP_DATA.number),
    { code: OPCODE.jumpAtLeast, k: X32_BIT, jumpTrue: 0, jumpFalse: 1 },
    ret(VERDICT.trap),
  ];
  for (const [name, rule] of Object.entries(SYSCALL_RULES)) {
    if (of !== 'process' && !rule.also?.includes(of)) continue;
    const block = verdictBlock(rule, of);
    program.push({ code: OPCODE.jumpEqual, k: syscallNumber(name), jumpTrue: 0, jumpFalse: block.length });
    program.push(...block);
  }
  program.push(ret(VERDICT.trap));
  return encode(program);
}

/** Decides about one call; ends in a return on every way. */
function verdictBlock(rule: SyscallRule, of: ThreadClass): Instruction[] {
  if (rule.errno !== undefined) return [ret(VERDICT.errno | rule.errno)];
  const tests = of === 'vcpu' ? (rule.vcpuWhen ?? rule.when) : rule.when;
  if (!tests) return [ret(VERDICT.allow)];
  return [...tests.flatMap(testBlock), ret(VERDICT.trap)];
}

/** Allows where the test holds, else goes on behind itself. */
function testBlock({ argument, mask, equals }: ArgumentTest): Instruction[] {
  const compares = equals.map((k, i): Instruction => ({
    code: OPCODE.jumpEqual,
    k,
    jumpTrue: equals.length - 1 - i,
    jumpFalse: i === equals.length - 1 ? 1 : 0,
  }));
  return [
    load(SECCOMP_DATA.arguments + 8 * argument),
    ...(mask === undefined ? [] : [{ code: OPCODE.and, k: mask }]),
    ...compares,
    ret(VERDICT.allow),
  ];
}

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * INSTRUCTION.size);
  const view = viewOf(bytes);
  program.forEach(({ code, k, jumpTrue = 0, jumpFalse = 0 }, i) => {
    const at = i * INSTRUCTION.size;
    view.setUint16(at + INSTRUCTION.code, code, true);
    view.setUint8(at + INSTRUCTION.jumpTrue, jumpTrue);
    view.setUint8(at + INSTRUCTION.jumpFalse, jumpFalse);
    view.setUint32(at + INSTRUCTION.k, k >>> 0, true);
  });
  return bytes;
}
