/**
 * Looks at a running guest now and then, and says once when it hangs.
 *
 * It costs next to nothing: while exits are counted up nobody is disturbed, and a look ends with the first vCPU that
 * may go on by itself, which is asked first the next time. Pausing and resuming go on as if it were not there.
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
  /** Those that are in the machine now, as CPUs come and go. */
  readonly vcpus: () => readonly Vcpu[];
  readonly shared: SharedState;
  /** After so many seconds without progress. */
  readonly seconds: number;
  /** Called once, and again only after the guest went on and stopped again. */
  readonly onHang: (stuck: readonly HungVcpu[]) => void;
}

export interface HungVcpu {
  readonly vcpu: Vcpu;
  readonly why: StuckReason;
}

/** Looks in the time after which a guest hangs. */
const INTERVALS = SAMPLES_NEEDED - 1;
/** A vCPU comes out of KVM_RUN within microseconds; on a busy host its thread may have to wait. */
const ANSWER_MS = 1000;
/** All registers but RIP and RFLAGS, which lie behind them. */
const REGISTER_OFFSETS = Object.values(REGS).filter((offset) => offset < REGS.rip);

export class HangWatch implements Disposable {
  readonly #options: HangWatchOptions;
  readonly #periodMs: number;
  #vcpus: readonly Vcpu[];
  #samples: HangSample[][];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #exits: number;
  #lookedAt = performance.now();
  /** A vCPU that went on when it was looked at last. */
  #lively = 0;
  #told = false;
  #closed = false;

  constructor(options: HangWatchOptions) {
    this.#options = options;
    this.#periodMs = (options.seconds * 1000) / INTERVALS;
    this.#vcpus = options.vcpus();
    this.#samples = this.#vcpus.map(() => []);
    this.#exits = this.#countExits();
    this.#plan();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #plan(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#periodMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const before = this.#lookedAt;
    this.#lookedAt = performance.now();
    // Late by a whole period: this process was stopped, or the host slept, and the guest with it.
    const late = this.#lookedAt - before > 2 * this.#periodMs;
    const progress = await this.#lookForProgress();
    if (this.#closed) return;
    if (progress || late) for (const samples of this.#samples) samples.length = 0;
    if (progress) this.#told = progress === 'none wanted' && this.#told;
    else if (!late && !this.#told) this.#judge();
    this.#plan();
  }

  /** `none wanted`: the guest is paused, ends, or waits for who reads its console. */
  async #lookForProgress(): Promise<'made' | 'possible' | 'none wanted' | undefined> {
    const { shared } = this.#options;
    const vcpus = this.#options.vcpus();
    const changed = vcpus.length !== this.#vcpus.length || vcpus.some((vcpu, i) => vcpu !== this.#vcpus[i]);
    if (changed) {
      this.#vcpus = vcpus;
      this.#samples = vcpus.map(() => []);
      this.#lively = 0;
    }
    // Output that KVM gathers makes no exits.
    const exits = this.#countExits() + Atomics.load(shared.words, VM_WORD.transmitHead);
    if (changed || exits !== this.#exits) {
      this.#exits = exits;
      return 'made';
    }
    if (isConsoleFull(shared) || vcpus.some(({ words }) => phaseOf(words) !== 'running'))
      return 'none wanted';
    for (let i = 0; i < vcpus.length; i++) {
      const index = (this.#lively + i) % vcpus.length;
      const sample = await this.#sample(vcpus[index]!);
      if (canMakeProgress(sample)) {
        this.#lively = index;
        return 'possible';
      }
      const samples = this.#samples[index]!;
      samples.push(sample);
      if (samples.length > SAMPLES_NEEDED) samples.shift();
    }
    // A pause that came in between leaves samples of which nobody knows what they mean.
    return vcpus.some(({ words }) => phaseOf(words) !== 'running') ? 'none wanted' : undefined;
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
    this.#told = true;
    this.#options.onHang(reasons.map((why, i) => ({ vcpu: this.#vcpus[i]!, why })));
  }

  /** Of all vCPUs; it only matters whether it changes. */
  #countExits(): number {
    let sum = 0;
    for (const { words } of this.#vcpus) {
      for (let reason = 0; reason < EXIT_COUNTERS; reason++) sum += words[VCPU_WORD.exits + reason]!;
    }
    return sum;
  }
}
