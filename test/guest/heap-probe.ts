/**
 * Runs in a vCPU's worker before its own code: what that reports at its end then tells of its heap too. While the vCPU
 * runs, the worker is in one call, so that nothing but an allocation makes its collector run.
 */
import { heapStats } from 'bun:jsc';

export interface HeapReport {
  /** Bytes that the heap has taken for objects, dead ones included, and what those own outside of it. */
  readonly capacity: number;
  /** Objects that nobody refers to, made when the vCPU started; and how many of them a collection has taken since. */
  readonly canaries: number;
  readonly collected: number;
}

const CANARIES = 100;
let canaries: readonly WeakRef<object>[] = [];

const makeCanaries = () => void (canaries = Array.from({ length: CANARIES }, () => new WeakRef({})));
// Called before the worker's own handler, which does not return until the vCPU has ended.
addEventListener('message', makeCanaries, { once: true });

const worker = globalThis as unknown as { postMessage(message: object): void };
const post = worker.postMessage;
worker.postMessage = (message) => {
  const collected = canaries.filter((canary) => canary.deref() === undefined).length;
  const heap: HeapReport = { capacity: heapStats().heapCapacity, canaries: canaries.length, collected };
  post({ ...message, heap });
};
