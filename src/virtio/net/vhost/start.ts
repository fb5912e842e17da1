/** What the main thread and the device worker share of the kernel's back-ends. */
import type { VhostFeatures } from '../../../ffi/vhost.ts';

export interface VhostStart {
  /** One for each pair of queues. */
  readonly fds: readonly number[];
  /** What the kernel can serve. */
  readonly features: VhostFeatures;
  /** Eventfd by which the kernel reports an invalid ring. */
  readonly errorFd: number;
  /** By VHOST_WORD. */
  readonly words: SharedArrayBuffer;
  /** The log of written pages, in this process. */
  readonly log: { readonly host: number; readonly bytes: number };
}

/**
 * `tracks`: pages are to be logged, written by the main thread. The others are the worker's: features of the rings that
 * run, of which there are some if `runs` is 1. `lock` is held while one of them changes and the kernel follows.
 */
export const VHOST_WORD = { lock: 0, tracks: 1, runs: 2, featuresLow: 3, featuresHigh: 4, size: 5 } as const;

/** No holder waits for anything but ioctls that return at once. */
export function lockWord(words: Int32Array): void {
  while (Atomics.compareExchange(words, VHOST_WORD.lock, 0, 1) !== 0)
    Atomics.wait(words, VHOST_WORD.lock, 1, 1);
}

export function unlockWord(words: Int32Array): void {
  Atomics.store(words, VHOST_WORD.lock, 0);
  Atomics.notify(words, VHOST_WORD.lock);
}
