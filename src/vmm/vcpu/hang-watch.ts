/**
 * Samples a running guest periodically and reports once when it hangs.
 *
 * While exits are counted no vCPU is sampled, and a check ends with the first vCPU that may make progress,
 * which the next check samples first. Pausing and resuming are not held up by it.
 */
import { readThreadStat } from '../../ffi/thread-stat.ts';
import { REGS } from '../../kvm/abi.ts';
import {
  diagnoseGuest,
  SAMPLES_NEEDED,
  canMakeProgress,
  type HangSample,
  type StuckReason,
} from '../../smp/hang.ts';
import { isConsoleFull } from '../serial/ring.ts';
import { EXIT_COUNTERS, VCPU_WORD, VM_WORD, type SharedState } from '../bus/shared-state.ts';
import { trySample } from './control.ts';
import { interruptsWereOn, lastRegister, lastRip, lifecycleOf, phaseOf } from './sample.ts';
import type { Vcpu } from './vcpu.ts';

export interface HangWatchOptions {
  /** vCPUs that are in the machine now: CPUs may be plugged and removed. */
  readonly vcpus: () => readonly Vcpu[];
  readonly shared: SharedState;
  /** A guest without progress for so long hangs. */
  readonly seconds: number;
  /** Called once, and again only after the guest has made progress and hangs again. */
  readonly onHang: (stuck: readonly HungVcpu[]) => void;
}

export interface HungVcpu {
  readonly vcpu: Vcpu;
  readonly why: StuckReason;
}

/** Checks in the time after which a guest hangs. */
const INTERVALS = SAMPLES_NEEDED - 1;
/** A vCPU leaves KVM_RUN within microseconds; on a busy host its thread may have to wait for a CPU. */
const ANSWER_MS = 1000;
/** All general registers but RIP and RFLAGS, which follow them. */
const REGISTER_OFFSETS = Object.values(REGS).filter((offset) => offset < REGS.rip);

export class HangWatch implements Disposable {
  readonly #options: HangWatchOptions;
  readonly #periodMs: number;
  #vcpus: readonly Vcpu[];
  #samples: HangSample[][];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #exits: number;
  #checkedAt = performance.now();
  /** Position of the vCPU that the last check found to make progress. */
  #first = 0;
  #reported = false;
  #closed = false;

  constructor(options: HangWatchOptions) {
    this.#options = options;
    this.#periodMs = (options.seconds * 1000) / INTERVALS;
    this.#vcpus = options.vcpus();
    this.#samples = this.#vcpus.map(() => []);
    this.#exits = this.#countExits();
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(() => void this.#check(), this.#periodMs);
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    const before = this.#checkedAt;
    this.#checkedAt = performance.now();
    // Late by a whole period: this process was stopped, or the host was suspended, and the guest with it.
    const late = this.#checkedAt - before > 2 * this.#periodMs;
    const progress = await this.#findProgress();
    if (this.#closed) return;
    if (progress || late) for (const samples of this.#samples) samples.length = 0;
    if (progress) this.#reported = progress === 'not expected' && this.#reported;
    else if (!late && !this.#reported) this.#judge();
    this.#schedule();
  }

  /** `not expected`: the guest is paused, ends, or waits for a reader of its console. */
  async #findProgress(): Promise<'made' | 'possible' | 'not expected' | undefined> {
    const { shared } = this.#options;
    const vcpus = this.#options.vcpus();
    const changed = vcpus.length !== this.#vcpus.length || vcpus.some((vcpu, i) => vcpu !== this.#vcpus[i]);
    if (changed) {
      this.#vcpus = vcpus;
      this.#samples = vcpus.map(() => []);
      this.#first = 0;
    }
    // Output that KVM coalesces makes no exits.
    const exits = this.#countExits() + Atomics.load(shared.words, VM_WORD.transmitHead);
    if (changed || exits !== this.#exits) {
      this.#exits = exits;
      return 'made';
    }
    if (isConsoleFull(shared) || vcpus.some(({ words }) => phaseOf(words) !== 'running'))
      return 'not expected';
    for (let i = 0; i < vcpus.length; i++) {
      const index = (this.#first + i) % vcpus.length;
      const sample = await this.#sample(vcpus[index]!);
      if (canMakeProgress(sample)) {
        this.#first = index;
        return 'possible';
      }
      const samples = this.#samples[index]!;
      samples.push(sample);
      if (samples.length > SAMPLES_NEEDED) samples.shift();
    }
    // Samples taken around a pause mean nothing.
    return vcpus.some(({ words }) => phaseOf(words) !== 'running') ? 'not expected' : undefined;
  }

  async #sample(vcpu: Vcpu): Promise<HangSample> {
    const answered = await trySample(vcpu, Math.min(ANSWER_MS, this.#periodMs));
    const { words } = vcpu;
    const { runtimeNs = 0, waitNs = 0 } = readThreadStat(Atomics.load(words, VCPU_WORD.threadId)) ?? {};
    return {
      answered,
      state: lifecycleOf(words),
      interruptsOn: interruptsWereOn(words),
      rip: lastRip(words),
      registers: REGISTER_OFFSETS.map((offset) => lastRegister(words, offset)),
      runtimeNs,
      waitNs,
    };
  }

  #judge(): void {
    const reasons = diagnoseGuest(this.#samples, INTERVALS * this.#periodMs * 1e6);
    if (!reasons) return;
    this.#reported = true;
    this.#options.onHang(reasons.map((why, i) => ({ vcpu: this.#vcpus[i]!, why })));
  }

  /** The sum over all vCPUs and reasons: only whether it changes matters. */
  #countExits(): number {
    let sum = 0;
    for (const { words } of this.#vcpus) {
      for (let reason = 0; reason < EXIT_COUNTERS; reason++) sum += words[VCPU_WORD.exits + reason]!;
    }
    return sum;
  }
}
