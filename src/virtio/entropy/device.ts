/** The entropy device: fills the buffers of its queue with random bytes. (Virtual I/O Device 1.2 §5.4) */
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';

export const ENTROPY_DESCRIPTION: DeviceDescription = {
  type: DEVICE_TYPE.entropy,
  features: [],
  queueSizes: [64],
  config: new Uint8Array(),
};

/**
 * Bound for one chain, so that no driver starves the others; a device may fill a buffer partly. (§5.4.6.1)
 */
const MAX_CHAIN_BYTES = 64 * 1024;

export interface EntropyEffects {
  /** Fills host memory with random bytes. */
  fill(host: number, bytes: number): void;
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
}

export class EntropyDevice implements VirtioDevice {
  readonly #effects: EntropyEffects;
  readonly #limiter: RateLimiter;
  readonly #chain = new Chain();
  #context: DeviceContext | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(effects: EntropyEffects, limits: RateLimits) {
    this.#effects = effects;
    this.#limiter = new RateLimiter(limits, effects.now());
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  reset(): void {
    this.#context = undefined;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  processQueue(): void {
    const context = this.#context;
    const queue = context?.queues[0];
    if (!context || !queue || this.#cancelTimer) return;
    const chain = this.#chain;
    do {
      queue.disableNotifications();
      for (;;) {
        if (this.#throttle()) {
          context.interrupt(0);
          return;
        }
        const next = queue.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail('its queue has an invalid ring or descriptor chain');
        if (chain.firstWritable > 0)
          return context.fail('its queue has a buffer that the device may not write');
        const written = this.#fill(chain);
        this.#limiter.charge(written);
        queue.pushUsed(chain.id, written);
        context.count(0, 0, written);
      }
      context.interrupt(0);
    } while (queue.enableNotifications());
  }

  #fill(chain: Chain): number {
    let done = 0;
    for (let i = 0; i < chain.count && done < MAX_CHAIN_BYTES; i++) {
      const bytes = Math.min(chain.length[i]!, MAX_CHAIN_BYTES - done);
      this.#effects.fill(chain.host[i]!, bytes);
      done += bytes;
    }
    return done;
  }

  /** True while the rate limit is exceeded; a timer then processes the queue again. */
  #throttle(): boolean {
    if (!this.#limiter.limited) return false;
    const delay = this.#limiter.delayMs(this.#effects.now());
    if (delay === 0) return false;
    this.#cancelTimer = this.#effects.after(delay, () => {
      this.#cancelTimer = undefined;
      this.processQueue();
    });
    return true;
  }
}
