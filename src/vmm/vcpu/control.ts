/** Steering live vCPUs from the main thread: pause, resume, look where they are. */
import { onlineCpus, setThreadAffinity } from '../../ffi/affinity.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { setThreadNice } from '../../ffi/priority.ts';
import { kickThread } from '../../ffi/signal.ts';
import { RUN } from '../../kvm/abi.ts';
import { tellGuestItWasPaused } from '../../kvm/vcpu.ts';
import { VoltError } from '../../volt-error.ts';
import { VCPU_COMMAND, VCPU_PHASE, VCPU_WORD } from '../bus/shared-state.ts';
import { phaseOf } from './sample.ts';
import type { Vcpu } from './vcpu.ts';

/** How long a vCPU may take to come out of KVM_RUN. It takes microseconds; more means that its worker hangs. */
const KICK_TIMEOUT_MS = 10_000;

/** Makes KVM_RUN return soon, or at once when it is entered next. */
export function kick({ words, runFlags }: Vcpu): void {
  runFlags[RUN.immediateExit] = 1;
  const threadId = Atomics.load(words, VCPU_WORD.threadId);
  if (threadId !== 0) kickThread(threadId);
}

/**
 * Resolves when all of them are out of KVM_RUN and stay there. Those that have stopped are left alone. Throws
 * VoltError when one does not come out, as one that waits for a reader of its console; all run on then.
 */
export async function pauseVcpus(vcpus: readonly Vcpu[], timeoutMs: number = KICK_TIMEOUT_MS): Promise<void> {
  const told: Vcpu[] = [];
  for (const vcpu of vcpus) {
    const before = Atomics.compareExchange(
      vcpu.words,
      VCPU_WORD.command,
      VCPU_COMMAND.run,
      VCPU_COMMAND.pause,
    );
    if (before !== VCPU_COMMAND.run) continue;
    told.push(vcpu);
    kick(vcpu);
  }
  for (const { index, words } of vcpus) {
    const left = await waitWhile(words, VCPU_WORD.phase, (phase) => phase < VCPU_PHASE.paused, timeoutMs);
    if (left) continue;
    // Nobody would know of one that stays out later.
    takePauseBack(told);
    throw doesNotLeave('pause', index);
  }
}

function takePauseBack(vcpus: readonly Vcpu[]): void {
  for (const { words } of vcpus) {
    const before = Atomics.compareExchange(words, VCPU_WORD.command, VCPU_COMMAND.pause, VCPU_COMMAND.run);
    if (before === VCPU_COMMAND.pause) Atomics.notify(words, VCPU_WORD.command);
  }
}

/** Lets paused vCPUs run again, with word to the guest's clock. Resolves when they do. */
export async function resumeVcpus(vcpus: readonly Vcpu[]): Promise<void> {
  const paused = vcpus.filter(({ words }) => Atomics.load(words, VCPU_WORD.phase) === VCPU_PHASE.paused);
  for (const { kvm } of paused) tellGuestItWasPaused(kvm.fd);
  // Also of those that have not obeyed yet.
  takePauseBack(vcpus);
  for (const { words } of paused)
    await waitWhile(words, VCPU_WORD.phase, (phase) => phase === VCPU_PHASE.paused);
}

/** Resolves when the vCPU is out of KVM_RUN until `unparkVcpu`. */
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

export function unparkVcpu({ words }: Vcpu): void {
  Atomics.compareExchange(words, VCPU_WORD.command, VCPU_COMMAND.park, VCPU_COMMAND.run);
  Atomics.notify(words, VCPU_WORD.command);
}

/** Resolves when the vCPU's worker is in its loop. */
export async function waitUntilRunning({ index, words }: Vcpu): Promise<void> {
  const isOut = (phase: number) => phase === VCPU_PHASE.created || phase === VCPU_PHASE.parked;
  if (!(await waitWhile(words, VCPU_WORD.phase, isOut))) {
    throw new VoltError(
      'internal',
      `Cannot plug vCPU ${index}: its worker does not come up (expected that within ${KICK_TIMEOUT_MS} ms)`,
    );
  }
}

/** Brings MP state and registers of running vCPUs up to date, with one short exit each. */
export async function sampleVcpus(vcpus: readonly Vcpu[]): Promise<void> {
  const looks = vcpus.map((vcpu) => trySample(vcpu, KICK_TIMEOUT_MS));
  for (const [i, answered] of (await Promise.all(looks)).entries()) {
    if (!answered) throw doesNotLeave('look at', vcpus[i]!.index);
  }
}

/** The same for one vCPU. False when it did not come out of KVM_RUN in time; true for one that does not run. */
export async function trySample(vcpu: Vcpu, timeoutMs: number): Promise<boolean> {
  const { words } = vcpu;
  if (phaseOf(words) !== 'running') return true;
  Atomics.add(words, VCPU_WORD.sampleWanted, 1);
  const wanted = Atomics.load(words, VCPU_WORD.sampleWanted);
  kick(vcpu);
  // Not "equal": another caller may have wished for a later sample meanwhile, and the worker skips to that.
  const isOlder = (done: number) => ((done - wanted) | 0) < 0;
  const busy = (done: number) => isOlder(done) && phaseOf(words) === 'running';
  return waitWhile(words, VCPU_WORD.sampleDone, busy, timeoutMs);
}

/** Moves a running vCPU's thread. Throws VoltError 'usage' for a host CPU that is not online. */
export function pinVcpu(vcpu: Vcpu, cpus: readonly number[]): void {
  const { index, scheduling } = vcpu;
  checkHostCpus(index, cpus);
  if (cpus.length === 0)
    throw new VoltError('usage', `Cannot pin vCPU ${index} to no CPU (expected at least one)`);
  applyToThread('pin', vcpu, (threadId) => setThreadAffinity(threadId, cpus));
  scheduling.cpus = cpus;
}

/** Sets the nice value of a running vCPU's thread. Throws SyscallError when this user may not. */
export function setVcpuNice(vcpu: Vcpu, nice: number): void {
  const { index, scheduling } = vcpu;
  if (!Number.isInteger(nice) || nice < NICE.most || nice > NICE.least) {
    throw new VoltError(
      'usage',
      `Cannot set the nice value of vCPU ${index}: ${nice} (expected a whole number from ${NICE.most} to ${NICE.least})`,
    );
  }
  applyToThread('set the nice value of', vcpu, (threadId) => setThreadNice(threadId, nice));
  scheduling.nice = nice;
}

/** From the most to the least of the host's CPUs. (setpriority(2)) */
const NICE = { most: -20, least: 19 } as const;

/** Where the vCPU is just moving from one thread to the next, the next one gets it when it is there. */
function applyToThread(action: string, { index, words }: Vcpu, apply: (threadId: number) => void): void {
  const threadId = Atomics.load(words, VCPU_WORD.threadId);
  if (threadId === 0 || phaseOf(words) === 'stopped')
    throw new VoltError('usage', `Cannot ${action} vCPU ${index}: it has no thread; start the VM first`);
  try {
    apply(threadId);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== ERRNO.ESRCH) throw error;
    void waitWhile(words, VCPU_WORD.threadId, (id) => id === threadId)
      .then((changed) => changed && apply(Atomics.load(words, VCPU_WORD.threadId)))
      // It has ended meanwhile.
      .catch(() => {});
  }
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

/** A vCPU that ends meanwhile notifies another word, so none is waited on for longer than this at a time. */
const RECHECK_MS = 100;

function doesNotLeave(action: string, index: number): VoltError {
  return new VoltError(
    'internal',
    `Cannot ${action} vCPU ${index}: it did not leave the guest (expected that within ${KICK_TIMEOUT_MS} ms)`,
  );
}
