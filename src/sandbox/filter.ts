/**
 * Builds seccomp filters, which are classic BPF, from the rules. (Linux
 * Documentation/userspace-api/seccomp_filter.rst, uapi linux/bpf_common.h, linux/seccomp.h)
 */
import { viewOf } from '../binary/bytes.ts';
import type { OptionalDevice } from './optional-devices.ts';
import {
  FILE_RULES,
  MEM_RULES,
  OWN_PID,
  PCI_RULES,
  SYSCALL_RULES,
  type ArgumentTest,
  type Condition,
  type SyscallRule,
  type ThreadClass,
} from './rules.ts';
import { syscallNumber } from './syscalls.ts';

/** struct sock_filter */
export const INSTRUCTION = { code: 0, jumpTrue: 2, jumpFalse: 3, k: 4, size: 8 } as const;

/**
 * BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_ALU|BPF_AND|BPF_K, BPF_RET|BPF_K
 */
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

/**
 * The program for threads of a class, as an array of struct sock_filter. `pid` is the process that may signal
 * itself. Whatever no rule allows traps.
 */
export function buildFilter(of: ThreadClass, pid: number): Uint8Array {
  return encode(buildProgram(of, pid).program);
}

/**
 * Byte offsets of the instructions that recognize the calls of an optional device: by another `k` they never
 * do.
 */
export function findOptionalCalls(of: ThreadClass, device: OptionalDevice): number[] {
  return buildProgram(of, 1).optional[device].map((index) => index * INSTRUCTION.size + INSTRUCTION.k);
}

function buildProgram(of: ThreadClass, pid: number) {
  const program: Instruction[] = [
    load(SECCOMP_DATA.architecture),
    { code: OPCODE.jumpEqual, k: AUDIT_ARCH_X86_64, jumpTrue: 1, jumpFalse: 0 },
    ret(VERDICT.trap),
    load(SECCOMP_DATA.number),
    { code: OPCODE.jumpAtLeast, k: X32_BIT, jumpTrue: 0, jumpFalse: 1 },
    ret(VERDICT.trap),
  ];
  const optional: Record<OptionalDevice, number[]> = {
    vsock: [],
    share: [],
    files: [],
    control: [],
    pci: [],
    mem: [],
  };
  // Those for files come first, then those for PCI: the others restrict the same calls.
  const tables = [FILE_RULES, PCI_RULES, MEM_RULES, SYSCALL_RULES];
  for (const [name, rule] of tables.flatMap((table) => Object.entries(table))) {
    if (of !== 'process' && !rule.also?.includes(of)) continue;
    const block = verdictBlock(rule, of, pid);
    if (rule.needs) optional[rule.needs].push(program.length);
    program.push(jumpIfEqual(syscallNumber(name), 0, block.length), ...block);
  }
  program.push(ret(VERDICT.trap));
  return { program, optional };
}

/** Decides about one call; every path ends in a return. */
function verdictBlock(rule: SyscallRule, of: ThreadClass, pid: number): Instruction[] {
  const narrower = of === 'vcpu' ? rule.vcpuWhen : of === 'device' ? rule.deviceWhen : undefined;
  const conditions = narrower ?? rule.when;
  if (!conditions) return [ret(VERDICT.allow)];
  const otherwise = rule.errno === undefined ? VERDICT.trap : VERDICT.errno | rule.errno;
  return [...conditions.flatMap((condition) => conditionBlock(condition, pid)), ret(otherwise)];
}

/** Allows the call when all tests hold; otherwise execution continues behind the block. */
function conditionBlock(condition: Condition, pid: number): Instruction[] {
  return condition.reduceRight<Instruction[]>(
    (behind, test) => [...testBlock(test, pid, behind.length), ...behind],
    [ret(VERDICT.allow)],
  );
}

/** Continues behind itself when the test holds, otherwise `skipped` instructions further. */
function testBlock({ argument, mask, equals, is64Bit }: ArgumentTest, pid: number, skipped: number) {
  const low = SECCOMP_DATA.arguments + 8 * argument;
  const block = [load(low), ...(mask === undefined ? [] : [{ code: OPCODE.and, k: mask }])];
  equals.forEach((value, i) => {
    const isLast = i === equals.length - 1;
    block.push(jumpIfEqual(value === OWN_PID ? pid : value, equals.length - 1 - i, isLast ? skipped : 0));
  });
  return is64Bit ? [load(low + 4), jumpIfEqual(0, 0, block.length + skipped), ...block] : block;
}

/**
 * Jumps count instructions behind this one, in 8 bits. Throws RangeError when a block is too long for that.
 */
function jumpIfEqual(k: number, jumpTrue: number, jumpFalse: number): Instruction {
  const furthest = Math.max(jumpTrue, jumpFalse);
  if (furthest > 0xff)
    throw new RangeError(
      `Cannot build a filter: a jump is ${furthest} instructions long (expected at most 255)`,
    );
  return { code: OPCODE.jumpEqual, k, jumpTrue, jumpFalse };
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
