/**
 * CPU hotplug on the main thread: plugs vCPUs, asks the guest to eject some, parks those that it has ejected.
 */
import {
  lastCpuOst,
  isCpuEjected,
  isCpuPresent,
  clearCpuEjected,
  plugCpu,
  requestCpuRemoval,
  cancelCpuRequest,
} from '../../chips/cpu-hotplug.ts';
import type { VmConfig } from '../../config/config.ts';
import { ACPI_EVENT } from '../../machine/ports.ts';
import { SerialQueue } from '../../runtime/serial-queue.ts';
import { VoltError } from '../../volt-error.ts';
import type { AcpiEvents } from '../acpi-events.ts';
import { VM_WORD, type SharedState } from '../bus/shared-state.ts';
import {
  ANSWER_TIMEOUT_MS,
  awaitAnswer,
  describeOst,
  hasEnded,
  OST_IN_PROGRESS,
  OST_SUCCESS,
  withBusLock,
} from '../guest-answers.ts';
import type { VcpuSet } from './set.ts';

export interface CpuHotplugOptions {
  readonly shared: SharedState;
  readonly vcpus: VcpuSet;
  readonly acpiEvents: AcpiEvents;
  readonly config: Pick<VmConfig, 'cpus' | 'maxCpus' | 'cpuHotplug' | 'bootCpu'>;
}

/** What a change of the number of vCPUs came to. */
export interface CpuChange {
  /** vCPUs in the machine now. */
  readonly present: number;
  readonly added: readonly number[];
  readonly removed: readonly number[];
  /** Plugged, but the guest has not acknowledged them. */
  readonly unanswered: readonly number[];
}

const BUS_CHECK_MS = 1;

export class CpuHotplug {
  readonly #options: CpuHotplugOptions;
  /** The registers of the hotplug device. */
  readonly #words: Int32Array;
  readonly #indices: readonly number[];
  readonly #queue = new SerialQueue();

  constructor(options: CpuHotplugOptions) {
    this.#options = options;
    this.#words = options.shared.cpuHotplug;
    this.#indices = Array.from({ length: options.config.maxCpus }, (_, cpu) => cpu);
  }

  /** vCPUs that are in the machine as the guest sees it. */
  get presentCount(): number {
    return this.#indices.filter((cpu) => isCpuPresent(this.#words, cpu)).length;
  }

  /**
   * Plugs or removes vCPUs until `count` are present: the lowest free ones are plugged, the highest removed.
   * Resolves when the guest has answered. Throws VoltError 'usage' for an impossible count and 'guest' when
   * it refuses a removal.
   */
  setCount(count: number): Promise<CpuChange> {
    return this.#queue.run(() => this.#setCount(count));
  }

  /** Calls `action` between two changes of the number of vCPUs, not while one is under way. */
  whenIdle<T>(action: () => T | Promise<T>): Promise<T> {
    return this.#queue.run(action);
  }

  /**
   * Parks vCPUs when the guest ejects them, by itself or because it was asked to. Resolves when the machine
   * ends.
   */
  async parkEjected(warn: (line: string) => void): Promise<void> {
    if (!this.#options.config.cpuHotplug) return;
    const { words } = this.#options.shared;
    while (!this.#hasEnded()) {
      const seen = Atomics.load(words, VM_WORD.hotplugRequests);
      await this.#parkOnce().catch((error: Error) => warn(error.message));
      const wait = Atomics.waitAsync(words, VM_WORD.hotplugRequests, seen);
      if (wait.async) await wait.value;
    }
  }

  async #parkOnce(): Promise<void> {
    for (const cpu of this.#indices) {
      if (!isCpuEjected(this.#words, cpu)) continue;
      await this.#options.vcpus.park(cpu);
      await this.#withBusLock(() => clearCpuEjected(this.#words, cpu));
    }
  }

  async #setCount(count: number): Promise<CpuChange> {
    this.#checkCount(count);
    const words = this.#words;
    const all = this.#indices;
    await this.#awaitParking(() => all.every((cpu) => !isCpuEjected(words, cpu)));
    const present = all.filter((cpu) => isCpuPresent(words, cpu));
    const missing = Math.max(0, count - present.length);
    const surplus = Math.max(0, present.length - count);
    // A vCPU that the guest has just ejected is free once it is parked.
    const free = all.filter((cpu) => !isCpuPresent(words, cpu) && !isCpuEjected(words, cpu));
    const added = free.slice(0, missing);
    const { bootCpu } = this.#options.config;
    const removed = surplus === 0 ? [] : present.filter((cpu) => cpu !== bootCpu).slice(-surplus);
    const unanswered = await this.#plug(added);
    await this.#remove(removed);
    return { present: this.presentCount, added, removed, unanswered };
  }

  #checkCount(count: number): void {
    const { cpus, maxCpus, cpuHotplug } = this.#options.config;
    if (!cpuHotplug) {
      throw new VoltError(
        'usage',
        `Cannot change the number of vCPUs: the guest has ${cpus} without room for more; start it with --cpus ${cpus},max=M`,
      );
    }
    if (Number.isInteger(count) && count >= 1 && count <= maxCpus) return;
    throw new VoltError('usage', `Cannot change the number of vCPUs to ${count} (expected 1 to ${maxCpus})`);
  }

  /** Returns those of `cpus` that the guest has not acknowledged. */
  async #plug(cpus: readonly number[]): Promise<number[]> {
    const words = this.#words;
    const before = cpus.map((cpu) => lastCpuOst(words, cpu).count);
    for (const cpu of cpus) await this.#options.vcpus.plug(cpu);
    await this.#withBusLock(() => cpus.forEach((cpu) => plugCpu(words, cpu)));
    const isAnswered = (cpu: number, i: number) => lastCpuOst(words, cpu).count !== before[i];
    await this.#awaitAnswer(() => cpus.every(isAnswered));
    return cpus.filter((cpu, i) => !isAnswered(cpu, i));
  }

  async #remove(cpus: readonly number[]): Promise<void> {
    const words = this.#words;
    const before = cpus.map((cpu) => lastCpuOst(words, cpu).count);
    await this.#withBusLock(() => cpus.forEach((cpu) => requestCpuRemoval(words, cpu)));
    const isGone = (cpu: number) => !isCpuPresent(words, cpu) && !isCpuEjected(words, cpu);
    const isRefused = (cpu: number, i: number) => {
      const { count, status } = lastCpuOst(words, cpu);
      return count !== before[i] && status !== OST_SUCCESS && status !== OST_IN_PROGRESS;
    };
    await this.#awaitAnswer(() => cpus.every((cpu, i) => isGone(cpu) || isRefused(cpu, i)));
    await this.#withBusLock(() => cpus.forEach((cpu) => cancelCpuRequest(words, cpu)));
    const kept = cpus.findIndex((cpu) => !isGone(cpu));
    if (kept < 0) return;
    const cpu = cpus[kept]!;
    const { status } = lastCpuOst(words, cpu);
    throw new VoltError(
      'guest',
      isRefused(cpu, kept)
        ? `Cannot remove vCPU ${cpu}: the guest refuses, ${describeOst(status)} (_OST status ${status}; expected it to eject the CPU)`
        : `Cannot remove vCPU ${cpu}: the guest did not answer within ${ANSWER_TIMEOUT_MS / 1000} s (expected a kernel with ACPI CPU hotplug)`,
    );
  }

  /** Waits for `parkEjected` to park; not for ever, as that may have failed. */
  async #awaitParking(done: () => boolean): Promise<void> {
    const deadline = performance.now() + ANSWER_TIMEOUT_MS;
    while (!done() && performance.now() < deadline && !this.#hasEnded()) await Bun.sleep(BUS_CHECK_MS);
  }

  #awaitAnswer(done: () => boolean): Promise<void> {
    const { shared, acpiEvents } = this.#options;
    return awaitAnswer(shared.words, acpiEvents, ACPI_EVENT.cpuHotplug, done);
  }

  #withBusLock(act: () => void): Promise<void> {
    return withBusLock(this.#options.shared.words, act);
  }

  #hasEnded(): boolean {
    return hasEnded(this.#options.shared.words);
  }
}
