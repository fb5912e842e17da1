/**
 * How the host schedules a vCPU's thread, which each thread sets for itself: the sandbox lets no thread change
 * another's affinity or nice value, since a filter cannot tell those of this process from those of others.
 */
import { AFFINITY_ADVICE, CPU_MASK_BYTES, cpuMask, setOwnAffinity } from '../../ffi/affinity.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { niceAdvice, setOwnNice } from '../../ffi/priority.ts';
import { CPU_MASK_WORDS, SCHEDULING, VCPU_WORD } from '../bus/shared-state.ts';

/** Kept for each thread that takes the vCPU over, and for the next machine after a reset. */
export interface VcpuScheduling {
  /** Host CPUs that it may run on; undefined: any. */
  cpus: readonly number[] | undefined;
  /** undefined: that of the process. */
  nice: number | undefined;
}

/** On a thread that begins to run a vCPU. Throws SyscallError. */
export function applyScheduling({ cpus, nice }: VcpuScheduling): void {
  if (cpus) setOwnAffinity(cpuMask(cpus));
  if (nice !== undefined) setOwnNice(nice);
}

/** On the main thread: writes a request, which the vCPU's thread serves after its next kick. */
export function requestScheduling(words: Int32Array, wanted: Partial<VcpuScheduling>): void {
  const { cpus, nice } = wanted;
  if (cpus) words.set(new Int32Array(cpuMask(cpus).buffer), VCPU_WORD.cpus);
  if (nice !== undefined) words[VCPU_WORD.nice] = nice;
  Atomics.store(words, VCPU_WORD.scheduling, cpus ? SCHEDULING.setCpus : SCHEDULING.setNice);
}

/** Whether a request waits that nobody has begun to serve. */
export function isSchedulingWanted(words: Int32Array): boolean {
  return isRequest(Atomics.load(words, VCPU_WORD.scheduling));
}

function isRequest(state: number): boolean {
  return state === SCHEDULING.setCpus || state === SCHEDULING.setNice;
}

/** Takes a request back that nobody has begun to serve; false when it is too late. */
export function withdrawScheduling(words: Int32Array): boolean {
  const before = Atomics.load(words, VCPU_WORD.scheduling);
  if (before === SCHEDULING.busy || before === SCHEDULING.done) return false;
  return Atomics.compareExchange(words, VCPU_WORD.scheduling, before, SCHEDULING.none) === before;
}

/** Throws SyscallError when the vCPU's thread could not serve the request. */
export function finishScheduling(words: Int32Array, { cpus }: Partial<VcpuScheduling>): void {
  Atomics.store(words, VCPU_WORD.scheduling, SCHEDULING.none);
  const errno = Atomics.load(words, VCPU_WORD.schedulingErrno);
  if (errno === 0) return;
  if (cpus) throw new SyscallError('sched_setaffinity', errno, AFFINITY_ADVICE);
  throw new SyscallError('setpriority', errno, niceAdvice(errno));
}

/** On the vCPU's thread: serves the main thread's request, if there is one. */
export function obeyScheduling(words: Int32Array): void {
  const wanted = Atomics.load(words, VCPU_WORD.scheduling);
  if (!isRequest(wanted)) return;
  if (Atomics.compareExchange(words, VCPU_WORD.scheduling, wanted, SCHEDULING.busy) !== wanted) return;
  let errno = 0;
  try {
    if (wanted === SCHEDULING.setCpus) setOwnAffinity(requestedMask(words));
    else setOwnNice(words[VCPU_WORD.nice]!);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    errno = error.errno;
  }
  Atomics.store(words, VCPU_WORD.schedulingErrno, errno);
  Atomics.store(words, VCPU_WORD.scheduling, SCHEDULING.done);
  Atomics.notify(words, VCPU_WORD.scheduling);
}

/** A copy, as system calls are given no shared memory. */
function requestedMask(words: Int32Array): Uint8Array {
  const mask = new Int32Array(CPU_MASK_WORDS);
  mask.set(words.subarray(VCPU_WORD.cpus, VCPU_WORD.cpus + CPU_MASK_WORDS));
  return new Uint8Array(mask.buffer, 0, CPU_MASK_BYTES);
}
