/**
 * Detects a hung guest from several samples of its vCPUs.
 *
 * Exits to Volt are no measure of progress: an idle Linux causes none for minutes, because KVM delivers its
 * timer interrupts itself. The question is whether a vCPU can make progress on its own:
 *
 * - With interrupts enabled it can: the next interrupt may arrive at any time. So a guest hangs only if every
 *   vCPU has them disabled, and a guest that is idle, or waits for input, never counts as hung.
 * - Halted with interrupts disabled it cannot: only an NMI, SMI or INIT would wake it. (Intel SDM 2A, "HLT")
 * - Running with interrupts disabled it makes none if all samples are within a few instructions and no
 *   register has a new value in each. A loop that works increments a counter or a pointer, which a register
 *   shows.
 * - Waiting for a SIPI it depends on another vCPU.
 */
import type { VcpuState } from './vcpu-state.ts';

/** One sample of one vCPU. */
export interface HangSample {
  /** Whether it left KVM_RUN to be sampled. If not, the fields below are from an earlier sample. */
  readonly answered: boolean;
  readonly state: VcpuState;
  readonly interruptsOn: boolean;
  readonly rip: bigint;
  /** The other general purpose registers, always in the same order. */
  readonly registers: readonly bigint[];
  /** Time its thread has run, and has waited for a host CPU, in nanoseconds. */
  readonly runtimeNs: number;
  readonly waitNs: number;
}

export const STUCK_REASONS = ['halted-for-good', 'spins', 'waits-for-sipi', 'stalled'] as const;
export type StuckReason = (typeof STUCK_REASONS)[number];

/** With fewer samples, a counter might have the same value twice by chance. */
export const SAMPLES_NEEDED = 4;

/** A loop that polls a flag is shorter than this. */
const LOOP_BYTES = 64n;
/** A thread that used less than this fraction of the time is idle: sampling it takes some. */
const IDLE_FRACTION = 0.01;

/** Whether one sample is enough to tell that a vCPU can make progress. */
export function canMakeProgress({ answered, state, interruptsOn }: HangSample): boolean {
  return answered && (state === 'running' || state === 'halted') && interruptsOn;
}

/**
 * Why a vCPU is stuck, from at least SAMPLES_NEEDED consecutive samples; undefined if it may make progress.
 */
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

/** Why each vCPU is stuck; undefined if one of them may make progress, so that the guest is not hung. */
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

/** In KVM_RUN, but neither running nor waiting for a host CPU: the host kernel is waiting for something. */
function isStalled(samples: readonly HangSample[], elapsedNs: number): boolean {
  const [first, last] = [samples[0]!, samples.at(-1)!];
  const used = last.runtimeNs - first.runtimeNs + (last.waitNs - first.waitNs);
  return used < elapsedNs * IDLE_FRACTION;
}
