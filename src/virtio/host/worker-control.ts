/** Pauses, resumes and stops device workers from the main thread, by their shared words. */
import { signalEventFd } from '../../ffi/epoll.ts';
import { VoltError } from '../../volt-error.ts';
import { WORKER_RUN, WORKER_STOP, WORKER_WORD } from './worker-start.ts';

export interface WorkerHandle {
  /** Name of its thread. */
  readonly name: string;
  readonly controlFd: number;
  /** By WORKER_WORD. */
  readonly words: Int32Array;
}

/** How long workers may take to complete the I/O in flight. */
const DRAIN_TIMEOUT_MS = 10_000;
/** Longest wait for one word: a worker that ends meanwhile notifies another. */
const RECHECK_MS = 100;

/**
 * Resolves when no worker accesses guest memory any more. `pause` is a number that no earlier pause of these
 * workers had. Throws VoltError 'internal' when one does not complete its I/O in time; all of them go on then.
 */
export async function pauseWorkers(workers: readonly WorkerHandle[], pause: number): Promise<void> {
  for (const worker of workers) command(worker, WORKER_RUN, pause);
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  for (const { name, words } of workers) {
    for (;;) {
      const paused = Atomics.load(words, WORKER_WORD.paused);
      if (paused === pause || Atomics.load(words, WORKER_WORD.stopped) !== 0) break;
      const left = deadline - performance.now();
      if (left <= 0) {
        resumeWorkers(workers, pause);
        throw new VoltError(
          'internal',
          `Cannot pause the devices of thread ${name}: they did not complete their I/O within ${DRAIN_TIMEOUT_MS} ms; try again when their files and sockets are less busy`,
        );
      }
      const wait = Atomics.waitAsync(words, WORKER_WORD.paused, paused, Math.min(left, RECHECK_MS));
      if (wait.async) await wait.value;
    }
  }
}

/** Ends the pause with this number. */
export function resumeWorkers(workers: readonly WorkerHandle[], pause: number): void {
  for (const worker of workers) command(worker, pause, WORKER_RUN);
}

/** Blocks until the workers have ended. False if one did not in time. */
export function stopWorkers(workers: readonly WorkerHandle[]): boolean {
  for (const worker of workers) {
    command(worker, Atomics.load(worker.words, WORKER_WORD.command), WORKER_STOP);
  }
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  return workers.every(({ words }) => {
    while (Atomics.load(words, WORKER_WORD.stopped) === 0) {
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.wait(words, WORKER_WORD.stopped, 0, left);
    }
    return true;
  });
}

/** Replaces the command `from`, so that nothing follows a stop, and wakes the worker in epoll or in a pause. */
function command({ words, controlFd }: WorkerHandle, from: number, to: number): void {
  if (Atomics.compareExchange(words, WORKER_WORD.command, from, to) !== from) return;
  Atomics.notify(words, WORKER_WORD.command);
  signalEventFd(controlFd);
}
