/** Workers that are started before a guest needs them: one takes milliseconds to come up. */
import { workerUrl } from './worker-url.ts';

const prepared = new Map<string, Worker[]>();

/** Starts a Worker for a later `takeWorker` of the same entry point. (worker-url.ts) */
export function prepareWorker(entry: string): void {
  const idle = prepared.get(entry) ?? [];
  idle.push(startWorker(entry));
  prepared.set(entry, idle);
}

/** A prepared Worker, or a new one where none is left. The caller terminates it. */
export function takeWorker(entry: string): Worker {
  return prepared.get(entry)?.shift() ?? startWorker(entry);
}

function startWorker(entry: string): Worker {
  return new Worker(workerUrl(entry), { smol: true });
}
