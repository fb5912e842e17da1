/** Runs a seccomp filter as the kernel does. (net/core/filter.c, for the instructions that filters use) */
import { AUDIT_ARCH_X86_64, INSTRUCTION, OPCODE, SECCOMP_DATA } from '../../../src/sandbox/filter.ts';

export interface SystemCall {
  readonly number: number;
  readonly arguments?: readonly bigint[];
  readonly architecture?: number;
}

/** The verdict, as seccomp's return value. Throws for a program that the kernel would not take. */
export function judge(program: Uint8Array, call: SystemCall): number {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const data = new DataView(new ArrayBuffer(SECCOMP_DATA.size));
  data.setUint32(SECCOMP_DATA.number, call.number, true);
  data.setUint32(SECCOMP_DATA.architecture, call.architecture ?? AUDIT_ARCH_X86_64, true);
  call.arguments?.forEach((value, i) => data.setBigUint64(SECCOMP_DATA.arguments + 8 * i, value, true));
  let accumulator = 0;
  for (let at = 0; at + INSTRUCTION.size <= program.length; at += INSTRUCTION.size) {
    const k = code.getUint32(at + INSTRUCTION.k, true);
    const jump = (holds: boolean) => {
      at += INSTRUCTION.size * code.getUint8(at + (holds ? INSTRUCTION.jumpTrue : INSTRUCTION.jumpFalse));
    };
    switch (code.getUint16(at + INSTRUCTION.code, true)) {
      case OPCODE.load:
        accumulator = data.getUint32(k, true);
        break;
      case OPCODE.and:
        accumulator = (accumulator & k) >>> 0;
        break;
      case OPCODE.jumpEqual:
        jump(accumulator === k);
        break;
      case OPCODE.jumpAtLeast:
        jump(accumulator >= k);
        break;
      case OPCODE.ret:
        return k;
      default:
        throw new Error(`no such instruction at ${at}`);
    }
  }
  throw new Error('the program has no end');
}
