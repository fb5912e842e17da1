/** CPU hotplug from the main thread's side: plug vCPUs, have the guest give them back. */
import {
  cpuAnswer,
  isCpuEjected,
  isCpuPresent,
  noteCpuParked,
  plugCpu,
  requestCpuRemoval,
  withdrawCpuRequest,
} from '../../chips/cpu-hotplug.ts';
import { VoltError } from '../../volt-error.ts';
import { tryLockBus, unlockBus, VM_WORD, type SharedState } from '../bus/shared-state.ts';

/** What hotplug needs of the machine. */
export interface HotplugMachine {
  readonly shared: SharedState;
  readonly present: number;
  readonly maxCpus: number;
  readonly bootCpu: number;
  /** Makes the vCPU, or takes a parked one, and has it wait for its SIPI. */
  readyVcpu(index: number): Promise<void>;
  /** Resolves when the vCPU is out of the guest for good. */
  parkVcpu(index: number): Promise<void>;
  /** Raises the guest's ACPI event for CPUs. */
  tellGuest(): void;
  hasEnded(): boolean;
}

export interface CpuChange {
  /** vCPUs in the machine now. */
  readonly present: number;
  readonly added: readonly number[];
  readonly removed: readonly number[];
  /** Plugged, but the guest has said nothing of it. */
  readonly unanswered: readonly number[];
}

/** How long a guest may take for an answer: it may be booting, or have much to move off a CPU. */
const ANSWER_TIMEOUT_MS = 30_000;
/** A guest whose driver was not there yet missed the interrupt, so it is repeated. */
const REPEAT_MS = 500;

/** `_OST` statuses. (ACPI 6.5 §6.3.5, tables 6.14 to 6.16) */
const OST_SUCCESS = 0x00;
const OST_REASON: Readonly<Record<number, string>> = {
  0x01: 'a failure that it does not explain',
  0x02: 'it does not know the event',
  0x80: 'ejecting is not supported',
  0x81: 'the device is in use',
  0x82: 'the device is busy',
  0x83: 'the eject depends on another device',
};
/** It has begun: no answer yet. */
const OST_IN_PROGRESS = 0x84;

/** Parks what the guest has ejected, on its own account or because it was asked. */
export async function parkEjected(machine: HotplugMachine): Promise<void> {
  const words = machine.shared.cpuHotplug;
  for (let cpu = 0; cpu < machine.maxCpus; cpu++) {
    if (!isCpuEjected(words, cpu)) continue;
    await machine.parkVcpu(cpu);
    await underBusLock(machine, () => noteCpuParked(words, cpu));
  }
}

/**
 * Plugs or removes vCPUs until `count` are there: the lowest free ones come, the highest go. Resolves when the
 * guest has answered; throws VoltError 'usage' for a count that cannot be and 'guest' when it refuses a removal.
 */
export async function setCpuCount(machine: HotplugMachine, count: number): Promise<CpuChange> {
  if (machine.maxCpus === machine.present) {
    throw new VoltError(
      'usage',
      `Cannot change the number of vCPUs: the guest was started with ${machine.present} and no more (expected --cpus N,max=M)`,
    );
  }
  if (!Number.isInteger(count) || count < 1 || count > machine.maxCpus) {
    throw new VoltError(
      'usage',
      `Cannot change the number of vCPUs to ${count} (expected 1 to ${machine.maxCpus})`,
    );
  }
  const words = machine.shared.cpuHotplug;
  const all = Array.from({ length: machine.maxCpus }, (_, cpu) => cpu);
  await untilParked(machine, () => all.every((cpu) => !isCpuEjected(words, cpu)));
  const there = all.filter((cpu) => isCpuPresent(words, cpu));
  const missing = Math.max(0, count - there.length);
  const surplus = Math.max(0, there.length - count);
  // One that the guest has just given back is free when its thread is out of the guest.
  const free = all.filter((cpu) => !isCpuPresent(words, cpu) && !isCpuEjected(words, cpu));
  const added = free.slice(0, missing);
  const removed = surplus === 0 ? [] : there.filter((cpu) => cpu !== machine.bootCpu).slice(-surplus);
  const unanswered = await plug(machine, added);
  await remove(machine, removed);
  return { present: all.filter((cpu) => isCpuPresent(words, cpu)).length, added, removed, unanswered };
}

async function plug(machine: HotplugMachine, cpus: readonly number[]): Promise<number[]> {
  const words = machine.shared.cpuHotplug;
  const before = cpus.map((cpu) => cpuAnswer(words, cpu).count);
  for (const cpu of cpus) await machine.readyVcpu(cpu);
  await underBusLock(machine, () => cpus.forEach((cpu) => plugCpu(words, cpu)));
  const isAnswered = (cpu: number, i: number) => cpuAnswer(words, cpu).count !== before[i];
  await untilAnswered(machine, () => cpus.every(isAnswered));
  return cpus.filter((cpu, i) => !isAnswered(cpu, i));
}

async function remove(machine: HotplugMachine, cpus: readonly number[]): Promise<void> {
  const words = machine.shared.cpuHotplug;
  const before = cpus.map((cpu) => cpuAnswer(words, cpu).count);
  await underBusLock(machine, () => cpus.forEach((cpu) => requestCpuRemoval(words, cpu)));
  const isGone = (cpu: number) => !isCpuPresent(words, cpu) && !isCpuEjected(words, cpu);
  const isRefused = (cpu: number, i: number) => {
    const { count, status } = cpuAnswer(words, cpu);
    return count !== before[i] && status !== OST_SUCCESS && status !== OST_IN_PROGRESS;
  };
  await untilAnswered(machine, () => cpus.every((cpu, i) => isGone(cpu) || isRefused(cpu, i)));
  await underBusLock(machine, () => cpus.forEach((cpu) => withdrawCpuRequest(words, cpu)));
  const kept = cpus.findIndex((cpu) => !isGone(cpu));
  if (kept < 0) return;
  const cpu = cpus[kept]!;
  const { status } = cpuAnswer(words, cpu);
  throw new VoltError(
    'guest',
    isRefused(cpu, kept)
      ? `Cannot remove vCPU ${cpu}: the guest refuses, ${OST_REASON[status] ?? 'with an unknown reason'} (_OST status ${status}; expected it to eject the CPU)`
      : `Cannot remove vCPU ${cpu}: the guest did not answer within ${ANSWER_TIMEOUT_MS / 1000} s (expected a kernel with ACPI CPU hotplug)`,
  );
}

/** Waits for the parking that is under way; not for ever, as it may have failed. */
async function untilParked({ hasEnded }: HotplugMachine, done: () => boolean): Promise<void> {
  const deadline = performance.now() + ANSWER_TIMEOUT_MS;
  while (!done() && performance.now() < deadline && !hasEnded()) await Bun.sleep(BUS_CHECK_MS);
}

/** Raises the event until `done`, the time is up, or the guest has ended. */
async function untilAnswered(machine: HotplugMachine, done: () => boolean): Promise<void> {
  const { words } = machine.shared;
  const deadline = performance.now() + ANSWER_TIMEOUT_MS;
  let raiseAt = 0;
  for (;;) {
    const seen = Atomics.load(words, VM_WORD.hotplugRequests);
    const now = performance.now();
    if (done() || now >= deadline || machine.hasEnded()) return;
    if (now >= raiseAt) {
      machine.tellGuest();
      raiseAt = now + REPEAT_MS;
    }
    const wait = Atomics.waitAsync(words, VM_WORD.hotplugRequests, seen, REPEAT_MS);
    if (wait.async) await wait.value;
  }
}

const BUS_CHECK_MS = 1;

/** Never waits in place: whoever has the bus may be waiting for this thread to read the console. */
async function underBusLock({ shared, hasEnded }: HotplugMachine, act: () => void): Promise<void> {
  while (!tryLockBus(shared.words)) {
    if (hasEnded()) return;
    await Bun.sleep(BUS_CHECK_MS);
  }
  try {
    act();
  } finally {
    unlockBus(shared.words);
  }
}
