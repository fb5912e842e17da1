/** What a vCPU does and where it is, read from its words without disturbing it: as of its last sample. */
import { REGS } from '../../kvm/abi.ts';
import {
  mpStateName,
  lifecycleState,
  type MpStateName,
  type VcpuState,
  type WorkerPhase,
} from '../../smp/vcpu-state.ts';
import { VCPU_WORD } from '../bus/shared-state.ts';
import type { Vcpu } from './vcpu.ts';

const PHASE_NAMES: readonly WorkerPhase[] = ['created', 'running', 'paused', 'stopped', 'parked'];
const INTERRUPT_FLAG = 1 << 9;

export function phaseOf(words: Int32Array): WorkerPhase {
  return PHASE_NAMES[Atomics.load(words, VCPU_WORD.phase)] ?? 'stopped';
}

export function lastMpState(words: Int32Array): MpStateName {
  return mpStateName(Atomics.load(words, VCPU_WORD.mpState));
}

/** Vector of a pending SIPI; undefined in any other MP state. */
export function lastSipiVector(words: Int32Array): number | undefined {
  return lastMpState(words) === 'sipi-received' ? Atomics.load(words, VCPU_WORD.sipiVector) : undefined;
}

/** Lifecycle state, as far as it is known without an exit of the vCPU. */
export function lifecycleOf(words: Int32Array): VcpuState {
  return lifecycleState(phaseOf(words), lastMpState(words));
}

/** A general register, RIP or RFLAGS by its offset in REGS. */
export function lastRegister(words: Int32Array, offset: number): bigint {
  const low = BigInt(Atomics.load(words, VCPU_WORD.regs + offset / 4) >>> 0);
  const high = BigInt(Atomics.load(words, VCPU_WORD.regs + offset / 4 + 1) >>> 0);
  return (high << 32n) | low;
}

export function lastRip(words: Int32Array): bigint {
  return lastRegister(words, REGS.rip);
}

/** RFLAGS.IF: whether the vCPU accepted maskable interrupts. */
export function interruptsWereOn(words: Int32Array): boolean {
  return (Atomics.load(words, VCPU_WORD.regs + REGS.rflags / 4) & INTERRUPT_FLAG) !== 0;
}

/** Whether the vCPU was sampled at least once. */
export function wasSampled(words: Int32Array): boolean {
  // RFLAGS bit 1 is always set. (SDM 1 §3.4.3)
  return Atomics.load(words, VCPU_WORD.regs + REGS.rflags / 4) !== 0;
}

/** `vCPU 1: halted, RIP 0x1000 (main+0x10)`, as of the last sample; `symbolOf` names an address. */
export function describeVcpu(
  { index, words }: Pick<Vcpu, 'index' | 'words'>,
  symbolOf: (address: bigint) => string | undefined = () => undefined,
): string {
  const rip = lastRip(words);
  const symbol = symbolOf(rip);
  const position = `RIP 0x${rip.toString(16)}${symbol === undefined ? '' : ` (${symbol})`}`;
  return `vCPU ${index}: ${lifecycleOf(words)}, ${position}`;
}
