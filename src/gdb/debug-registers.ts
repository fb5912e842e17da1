/**
 * Breakpoints and watchpoints in the four debug registers of a CPU. Pure. (Intel SDM 3B §17.2)
 */
import type { BreakpointKind } from './commands.ts';

/** What one debug register stops at. */
export interface DebugStop {
  readonly type: Exclude<BreakpointKind, 'software'>;
  readonly address: bigint;
  /** 1, 2, 4 or 8, and a divisor of the address. */
  readonly bytes: number;
}

export const DEBUG_REGISTERS = 4;
/** DR6.BS: a single step. */
export const DR6_STEP = 1n << 14n;
/** DR7.GE, which processors recommend to set, and bit 10, which is always 1. */
const DR7_FIXED = (1n << 9n) | (1n << 10n);
/** R/W field of DR7: execution, data writes, data reads and writes. There is none for reads alone. */
const CONDITION = { hardware: 0n, write: 1n, read: 3n, access: 3n } as const;
const LENGTH: Readonly<Record<number, bigint>> = { 1: 0n, 2: 1n, 8: 2n, 4: 3n };
const LONGEST = 8;

/** Pieces of a watched range that a debug register can hold, in order of their addresses. */
export function splitRange(address: bigint, bytes: number): { address: bigint; bytes: number }[] {
  const pieces: { address: bigint; bytes: number }[] = [];
  for (let done = 0; done < bytes;) {
    const at = address + BigInt(done);
    let size = LONGEST;
    while (size > bytes - done || at % BigInt(size) !== 0n) size /= 2;
    pieces.push({ address: at, bytes: size });
    done += size;
  }
  return pieces;
}

/** DR0 to DR3 and DR7 that stop at all of `stops`, at most DEBUG_REGISTERS. */
export function encodeDebugRegisters(stops: readonly DebugStop[]): { addresses: bigint[]; dr7: bigint } {
  let dr7 = DR7_FIXED;
  stops.forEach(({ type, bytes }, i) => {
    const enable = 2n << BigInt(2 * i);
    const condition = CONDITION[type] | (LENGTH[bytes]! << 2n);
    dr7 |= enable | (condition << BigInt(16 + 4 * i));
  });
  return { addresses: stops.map(({ address }) => address), dr7 };
}

/** The stop that DR6 names, if it is one of them. */
export function stopOf(dr6: bigint, stops: readonly DebugStop[]): DebugStop | undefined {
  return stops.find((_, i) => (dr6 & (1n << BigInt(i))) !== 0n);
}
