/**
 * Workers for vCPUs. One takes about 5 ms to come up, so those that are needed at once start before all else.
 */
import { takeWorker } from '../../runtime/prepared-workers.ts';

/** Entry point of a vCPU's Worker. */
export const VCPU_WORKER = 'vmm/vcpu/worker';

export class WorkerPool implements Disposable {
  readonly #all: Worker[];
  readonly #idle: Worker[];

  /** Starts `count` Workers. */
  constructor(count: number) {
    this.#all = Array.from({ length: count }, spawnWorker);
    this.#idle = [...this.#all];
  }

  /** An idle Worker, or a new one when none is left. It stays the pool's, which terminates it. */
  take(): Worker {
    const idle = this.#idle.shift();
    if (idle) return idle;
    const worker = spawnWorker();
    this.#all.push(worker);
    return worker;
  }

  /** Terminates all Workers, those that were taken included. */
  [Symbol.dispose](): void {
    this.#idle.length = 0;
    for (const worker of this.#all.splice(0)) worker.terminate();
  }
}

function spawnWorker(): Worker {
  return takeWorker(VCPU_WORKER);
}
