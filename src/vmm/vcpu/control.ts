/** Controls running vCPUs from the main thread: pause, resume, park, sample, schedule. */
import { onlineCpus } from '../../ffi/affinity.ts';
import { kickThread } from '../../ffi/signal.ts';
import { RUN } from '../../kvm/abi.ts';
import { notifyGuestPaused } from '../../kvm/vcpu.ts';
import { VoltError } from '../../volt-error.ts';
import { SCHEDULING, VCPU_COMMAND, VCPU_PHASE, VCPU_WORD } from '../bus/shared-state.ts';
import { phaseOf } from './sample.ts';
import {
  finishScheduling,
  requestScheduling,
  withdrawScheduling,
  type VcpuScheduling,
} from './scheduling.ts';
import type { Vcpu } from './vcpu.ts';

/** How long a vCPU may take to leave KVM_RUN. It takes microseconds; more means that its thread hangs. */
const KICK_TIMEOUT_MS = 10_000;

/**
 * Makes KVM_RUN return now, or at once when it is entered next; a vCPU that is out of it obeys now.
 * (api.rst §5, immediate_exit)
 */
export function kick({ words, runFlags, held }: Vcpu): void {
  if (held) return held();
  runFlags[RUN.immediateExit] = 1;
  const threadId = Atomics.load(words, VCPU_WORD.threadId);
  if (threadId !== 0) kickThread(threadId);
}

/**
 * Resolves when all of them have left KVM_RUN and stay out; those that have stopped are left alone. Throws
 * VoltError 'internal' when one does not leave, such as one that waits for a reader of its console: all of
 * them run on then.
 */
export async function pauseVcpus(vcpus: readonly Vcpu[], timeoutMs: number = KICK_TIMEOUT_MS): Promise<void> {
  const asked: Vcpu[] = [];
  for (const vcpu of vcpus) {
    const before = Atomics.compareExchange(
      vcpu.words,
      VCPU_WORD.command,
      VCPU_COMMAND.run,
      VCPU_COMMAND.pause,
    );
    if (before !== VCPU_COMMAND.run) continue;
    asked.push(vcpu);
    kick(vcpu);
  }
  for (const { index, words } of vcpus) {
    const left = await waitWhile(words, VCPU_WORD.phase, (phase) => phase < VCPU_PHASE.paused, timeoutMs);
    if (left) continue;
    // Otherwise a vCPU would obey later, when nobody resumes it any more.
    cancelPause(asked);
    throw doesNotLeave('pause', index);
  }
}

function cancelPause(vcpus: readonly Vcpu[]): void {
  for (const vcpu of vcpus) letRun(vcpu, VCPU_COMMAND.pause);
}

/** Takes a command back. */
function letRun(vcpu: Vcpu, command: number): void {
  const { words } = vcpu;
  if (Atomics.compareExchange(words, VCPU_WORD.command, command, VCPU_COMMAND.run) !== command) return;
  Atomics.notify(words, VCPU_WORD.command);
  vcpu.held?.();
}

/** Lets a paused vCPU run again, which it may have stopped doing before this is seen. */
export function releasePaused(vcpu: Vcpu): void {
  notifyGuestPaused(vcpu.kvm.fd);
  letRun(vcpu, VCPU_COMMAND.pause);
}

/** Lets paused vCPUs run again, after telling the guest's clock. Resolves when they run. */
export async function resumeVcpus(vcpus: readonly Vcpu[]): Promise<void> {
  const paused = vcpus.filter(({ words }) => Atomics.load(words, VCPU_WORD.phase) === VCPU_PHASE.paused);
  for (const { kvm } of paused) notifyGuestPaused(kvm.fd);
  // Also the pause of those that have not obeyed yet.
  cancelPause(vcpus);
  for (const { words } of paused)
    await waitWhile(words, VCPU_WORD.phase, (phase) => phase === VCPU_PHASE.paused);
}

/**
 * Resolves when the vCPU has left KVM_RUN; it stays out until `unparkVcpu`. Throws VoltError when it does not
 * leave.
 */
export async function parkVcpu(vcpu: Vcpu): Promise<void> {
  const { index, words } = vcpu;
  const before = Atomics.load(words, VCPU_WORD.command);
  if (before === VCPU_COMMAND.stop) return;
  if (Atomics.compareExchange(words, VCPU_WORD.command, before, VCPU_COMMAND.park) !== before) return;
  Atomics.notify(words, VCPU_WORD.command);
  kick(vcpu);
  const isIn = (phase: number) => phase !== VCPU_PHASE.parked && phase !== VCPU_PHASE.stopped;
  if (!(await waitWhile(words, VCPU_WORD.phase, isIn))) throw doesNotLeave('park', index);
}

export function unparkVcpu(vcpu: Vcpu): void {
  letRun(vcpu, VCPU_COMMAND.park);
}

/** Resolves when the vCPU's thread is about to enter KVM_RUN. Throws VoltError when it does not come up. */
export async function waitUntilRunning({ index, words }: Vcpu): Promise<void> {
  const isOut = (phase: number) => phase === VCPU_PHASE.created || phase === VCPU_PHASE.parked;
  if (!(await waitWhile(words, VCPU_WORD.phase, isOut))) {
    throw new VoltError(
      'internal',
      `Cannot plug vCPU ${index}: its thread did not start within ${KICK_TIMEOUT_MS} ms; try again when the host is less busy`,
    );
  }
}

/** Samples MP state and registers of running vCPUs, which costs each of them one short exit. */
export async function sampleVcpus(vcpus: readonly Vcpu[]): Promise<void> {
  const samples = vcpus.map((vcpu) => trySample(vcpu, KICK_TIMEOUT_MS));
  for (const [i, answered] of (await Promise.all(samples)).entries()) {
    if (!answered) throw doesNotLeave('sample', vcpus[i]!.index);
  }
}

/** The same for one vCPU. False when it did not leave KVM_RUN in time; true for one that does not run. */
export async function trySample(vcpu: Vcpu, timeoutMs: number): Promise<boolean> {
  const { words } = vcpu;
  if (phaseOf(words) !== 'running') return true;
  Atomics.add(words, VCPU_WORD.sampleWanted, 1);
  const wanted = Atomics.load(words, VCPU_WORD.sampleWanted);
  kick(vcpu);
  // Not "equal": another caller may have requested a later sample, which serves this request as well.
  const isOlder = (done: number) => ((done - wanted) | 0) < 0;
  const busy = (done: number) => isOlder(done) && phaseOf(words) === 'running';
  return waitWhile(words, VCPU_WORD.sampleDone, busy, timeoutMs);
}

/**
 * Moves a vCPU's thread, which leaves KVM_RUN for it. Calls for one vCPU must follow each other. Throws
 * VoltError 'usage' for a host CPU that is not online.
 */
export async function pinVcpu(vcpu: Vcpu, cpus: readonly number[]): Promise<void> {
  const { index } = vcpu;
  checkHostCpus(index, cpus);
  if (cpus.length === 0)
    throw new VoltError('usage', `Cannot pin vCPU ${index}: no host CPU is named (expected at least one)`);
  await reschedule('pin', vcpu, { cpus });
}

/** The same for the nice value. Throws SyscallError when this user may not set it. */
export async function setVcpuNice(vcpu: Vcpu, nice: number): Promise<void> {
  const { index } = vcpu;
  if (!Number.isInteger(nice) || nice < NICE.highest || nice > NICE.lowest) {
    throw new VoltError(
      'usage',
      `Cannot set the nice value of vCPU ${index}: ${nice} (expected a whole number from ${NICE.highest} to ${NICE.lowest})`,
    );
  }
  await reschedule('set the nice value of', vcpu, { nice });
}

/** Nice values: from the largest to the smallest share of host CPU time. (setpriority(2)) */
const NICE = { highest: -20, lowest: 19 } as const;

/**
 * A waiting AP is taken over by a Worker for this, which has the scheduling of before until it serves the
 * request.
 */
async function reschedule(action: string, vcpu: Vcpu, wanted: Partial<VcpuScheduling>): Promise<void> {
  const { index, words, scheduling } = vcpu;
  if (Atomics.load(words, VCPU_WORD.threadId) === 0 || phaseOf(words) === 'stopped')
    throw new VoltError('usage', `Cannot ${action} vCPU ${index}: it has no thread; start the VM first`);
  requestScheduling(words, wanted);
  kick(vcpu);
  const isOpen = (state: number) => {
    // A vCPU that is out of the guest waits for a command. Again each time: it may just be going to wait.
    Atomics.notify(words, VCPU_WORD.command);
    return state !== SCHEDULING.done && phaseOf(words) !== 'stopped';
  };
  const left = await waitWhile(words, VCPU_WORD.scheduling, isOpen);
  if (withdrawScheduling(words)) {
    if (!left) throw doesNotLeave(action, index);
    throw new VoltError('usage', `Cannot ${action} vCPU ${index}: it has ended; start the VM again`);
  }
  await waitWhile(words, VCPU_WORD.scheduling, (state) => state === SCHEDULING.busy);
  finishScheduling(words, wanted);
  Object.assign(scheduling, wanted);
}

/** Throws VoltError 'usage' for a host CPU that is not online. */
export function checkHostCpus(index: number, cpus: readonly number[]): void {
  const online = onlineCpus();
  const missing = cpus.find((cpu) => !online.includes(cpu));
  if (missing === undefined) return;
  throw new VoltError(
    'usage',
    `Cannot pin vCPU ${index}: there is no host CPU ${missing} (expected one of ${online.join(', ')})`,
  );
}

/** True once `busy` is false for the word; false when that takes too long. */
async function waitWhile(
  words: Int32Array,
  word: number,
  busy: (value: number) => boolean,
  timeoutMs: number = KICK_TIMEOUT_MS,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = Atomics.load(words, word);
    if (!busy(value)) return true;
    const left = deadline - performance.now();
    if (left <= 0) return false;
    const wait = Atomics.waitAsync(words, word, value, Math.min(left, RECHECK_MS));
    if (wait.async) await wait.value;
  }
}

/** Longest wait for one word: a vCPU that ends meanwhile notifies another. */
const RECHECK_MS = 100;

function doesNotLeave(action: string, index: number): VoltError {
  return new VoltError(
    'internal',
    `Cannot ${action} vCPU ${index}: it did not leave the guest within ${KICK_TIMEOUT_MS} ms; read its console, for which it may be waiting`,
  );
}
