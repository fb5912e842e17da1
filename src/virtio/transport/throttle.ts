/** A rate limit together with its timer: holds a device's queues back, and resumes them when the limit permits. */
import { RateLimiter, type RateLimits } from './rate-limiter.ts';

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

  /** `resume` is called once after each `check` that returned true, unless `cancel` comes first. */
  constructor(limits: RateLimits, effects: ThrottleEffects, resume: () => void) {
    this.#effects = effects;
    this.#limiter = new RateLimiter(limits, effects.now());
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
    this.#cancelTimer = this.#effects.after(delay, () => {
      this.#cancelTimer = undefined;
      this.#resume();
    });
    return true;
  }

  cancel(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}
