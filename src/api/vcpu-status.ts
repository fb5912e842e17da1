/** A vCPU's status and registers, as clients get them. */
import { hex } from '../binary/bytes.ts';
import { getThreadAffinity } from '../ffi/affinity.ts';
import { readThreadStat } from '../ffi/thread-stat.ts';
import { KVM_MP_STATE, REGS, SREGS } from '../kvm/abi.ts';
import { readMpState, readRegs, readSipiVector, readSregs } from '../kvm/vcpu.ts';
import type { MachinePlan } from '../plan/plan.ts';
import { mpStateName } from '../smp/vcpu-state.ts';
import { EXIT_COUNTERS, VCPU_WORD } from '../vmm/bus/shared-state.ts';
import { exitName } from '../vmm/vcpu/exit-report.ts';
import { lastMpState, lastRip, lastSipiVector, lifecycleOf, wasSampled } from '../vmm/vcpu/sample.ts';
import type { Vcpu } from '../vmm/vcpu/vcpu.ts';
import type { RegisterSet, VcpuStatus } from './control/target.ts';

const SPECIAL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const;

/** Names a code address, as `main+0x10`; undefined if there is no symbol. */
type SymbolOf = (address: bigint) => string | undefined;

/** Read from shared words and /proc, without an exit of the vCPU. */
export function describeVcpuStatus(
  { index, words }: Vcpu,
  plan: MachinePlan,
  symbolOf: SymbolOf,
): VcpuStatus {
  const threadId = Atomics.load(words, VCPU_WORD.threadId);
  const stat = threadId === 0 ? undefined : readThreadStat(threadId);
  const sipiVector = lastSipiVector(words);
  return {
    index,
    apicId: plan.cpus[index]!.apicId,
    bsp: index === plan.bootCpu,
    state: lifecycleOf(words),
    mpState: lastMpState(words),
    ...(sipiVector === undefined ? {} : { sipiVector }),
    threadId,
    affinity: stat ? getThreadAffinity(threadId) : [],
    ...stat,
    ...sampledRip(words, symbolOf),
    exits: countExits(words),
  };
}

/** RIP of the last sample and its symbol; empty before the first one. */
export function sampledRip(words: Int32Array, symbolOf: SymbolOf): Pick<VcpuStatus, 'rip' | 'symbol'> {
  if (!wasSampled(words)) return {};
  const rip = lastRip(words);
  const symbol = symbolOf(rip);
  return { rip: hex(rip), ...(symbol === undefined ? {} : { symbol }) };
}

function countExits(words: Int32Array): Record<string, number> {
  const exits: Record<string, number> = {};
  for (let reason = 0; reason < EXIT_COUNTERS; reason++) {
    const count = words[VCPU_WORD.exits + reason]! >>> 0;
    if (count > 0) exits[exitName(reason)] = count;
  }
  return exits;
}

/** Reads the registers of a vCPU that is not in KVM_RUN. Throws SyscallError. */
export function readRegisterSet(vcpuFd: number): RegisterSet {
  const regs = readRegs(vcpuFd);
  const sregs = readSregs(vcpuFd);
  const valueAt = (view: DataView, offset: number) => hex(view.getBigUint64(offset, true));
  const general: Record<string, string> = {};
  for (const [name, offset] of Object.entries(REGS))
    if (name !== 'size') general[name] = valueAt(regs, offset);
  const special: Record<string, string> = {};
  for (const name of SPECIAL) special[name] = valueAt(sregs, SREGS[name]);
  const mpState = readMpState(vcpuFd);
  const vector = mpState === KVM_MP_STATE.sipiReceived ? { sipiVector: readSipiVector(vcpuFd) } : {};
  return { general, special, mpState: mpStateName(mpState), ...vector };
}
