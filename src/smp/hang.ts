/**
 * Whether a guest hangs, judged from a few looks at its vCPUs. Pure.
 *
 * Exits to Volt say little: a healthy idle Linux makes none for minutes, because its timers wake it inside KVM. What
 * counts is whether a vCPU can go on by itself:
 *
 * - One with interrupts on can: its next interrupt may come at any time. So a guest hangs only when every vCPU has
 *   them off, and an idle one, or one that waits for a key, never does.
 * - Halted with interrupts off it cannot: only an NMI or INIT would wake it. (SDM 2A, HLT)
 * - Running with interrupts off it does not if look after look finds it at the same few instructions and no register
 *   has a new value each time. A loop that works counts or walks through memory, and so shows in one.
 * - Waiting for a SIPI it goes on when another vCPU starts it.
 */
import type { VcpuState } from './vcpu-state.ts';

/** One look at one vCPU. */
export interface HangSample {
  /** false: it did not come out of KVM_RUN to be looked at. What follows is then older. */
  readonly answered: boolean;
  readonly state: VcpuState;
  readonly interruptsOn: boolean;
  readonly rip: bigint;
  /** The other general registers, always in the same order. */
  readonly registers: readonly bigint[];
  /** Time that its thread ran and that it waited for a host CPU, in nanoseconds. */
  readonly runtimeNs: number;
  readonly waitNs: number;
}

export const STUCK_REASONS = ['halted-for-good', 'spins', 'waits-for-sipi', 'stalled'] as const;
export type StuckReason = (typeof STUCK_REASONS)[number];

/** With fewer looks a register of a loop that works might have the same value twice by chance. */
export const SAMPLES_NEEDED = 4;

/** A loop that waits for a flag is shorter than this. */
const LOOP_BYTES = 64n;
/** A thread that did not run for this part of the time did not run at all: kicks and looks take some. */
const IDLE_PART = 0.01;

/** Whether a single look shows that a vCPU can go on by itself. */
export function canMakeProgress({ answered, state, interruptsOn }: HangSample): boolean {
  return answered && (state === 'running' || state === 'halted') && interruptsOn;
}

/** Why a vCPU does not go on, from at least SAMPLES_NEEDED looks in a row; undefined when it may. */
export function diagnoseVcpu(samples: readonly HangSample[], elapsedNs: number): StuckReason | undefined {
  const [first] = samples;
  if (!first || samples.length < SAMPLES_NEEDED) return undefined;
  if (samples.every(({ answered }) => !answered))
    return isStalled(samples, elapsedNs) ? 'stalled' : undefined;
  if (!samples.every(({ answered, state }) => answered && state === first.state)) return undefined;
  if (first.state === 'waiting-for-sipi') return 'waits-for-sipi';
  if (samples.some(canMakeProgress)) return undefined;
  if (first.state === 'halted')
    return samples.every(({ rip }) => rip === first.rip) ? 'halted-for-good' : undefined;
  return first.state === 'running' && isSpinning(samples) ? 'spins' : undefined;
}

/** Why each vCPU does not go on; undefined when one of them may, and so the guest does not hang. */
export function diagnoseGuest(
  vcpus: readonly (readonly HangSample[])[],
  elapsedNs: number,
): readonly StuckReason[] | undefined {
  const reasons = vcpus.map((samples) => diagnoseVcpu(samples, elapsedNs));
  const stuck = reasons.filter((reason) => reason !== undefined);
  return stuck.length === vcpus.length ? stuck : undefined;
}

function isSpinning(samples: readonly HangSample[]): boolean {
  let [low, high] = [samples[0]!.rip, samples[0]!.rip];
  for (const { rip } of samples) {
    if (rip < low) low = rip;
    if (rip > high) high = rip;
  }
  const count = samples[0]!.registers.length;
  const advances = (register: number) =>
    new Set(samples.map(({ registers }) => registers[register])).size === samples.length;
  return high - low <= LOOP_BYTES && !Array.from({ length: count }, (_, i) => i).some(advances);
}

/** In KVM_RUN without running, and not for want of a host CPU: the kernel waits for something. */
function isStalled(samples: readonly HangSample[], elapsedNs: number): boolean {
  const [first, last] = [samples[0]!, samples.at(-1)!];
  const used = last.runtimeNs - first.runtimeNs + (last.waitNs - first.waitNs);
  return used < elapsedNs * IDLE_PART;
}
