/** A rate limit together with a timer: holds queues back, and resumes them when the limit permits. */
import type { RateLimiter } from './rate-limiter.ts';

export interface ThrottleEffects {
  /** Milliseconds of a monotonic clock. */
  now(): number;
  /** Calls `handler` once, `delayMs` from now. Returns a function that cancels it. */
  after(delayMs: number, handler: () => void): () => void;
}

export class Throttle {
  readonly #effects: ThrottleEffects;
  readonly #limiter: RateLimiter;
  readonly #resume: () => void;
  #cancelTimer: (() => void) | undefined;

  /**
   * `resume` is called once after each `pause` and each `check` that returned true, unless `cancel` comes
   * first. Throttles may share a limiter.
   */
  constructor(limiter: RateLimiter, effects: ThrottleEffects, resume: () => void) {
    this.#effects = effects;
    this.#limiter = limiter;
    this.#resume = resume;
  }

  /** The timer runs: nothing may be processed before `resume`. */
  get isActive(): boolean {
    return this.#cancelTimer !== undefined;
  }

  /** Counts one operation of `bytes` bytes. */
  charge(bytes: number): void {
    this.#limiter.charge(bytes);
  }

  /** True while the limit is exceeded, which starts the timer. */
  check(): boolean {
    if (!this.#limiter.limited) return false;
    const delay = this.#limiter.delayMs(this.#effects.now());
    if (delay === 0) return false;
    this.pause(delay);
    return true;
  }

  /** Starts the timer; with 0 the worker's other devices run first. */
  pause(delayMs: number): void {
    this.#cancelTimer = this.#effects.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.#resume();
    });
  }

  /** The limiter has changed: what waits for its timer goes on at once, as far as the new limit permits. */
  limitsChanged(): void {
    if (!this.isActive) return;
    this.cancel();
    this.#resume();
  }

  cancel(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}
