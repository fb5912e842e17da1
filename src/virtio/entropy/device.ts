/** The entropy device: fills the buffers of its queue with random bytes. (Virtual I/O Device 1.2 §5.4) */
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';
import { Throttle, type ThrottleEffects } from '../transport/throttle.ts';

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

export interface EntropyEffects extends ThrottleEffects {
  /** Fills host memory with random bytes. */
  fill(host: number, bytes: number): void;
}

export class EntropyDevice implements VirtioDevice {
  readonly limiters: readonly RateLimiter[];
  readonly #effects: EntropyEffects;
  readonly #throttle: Throttle;
  readonly #chain = new Chain();
  #context: DeviceContext | undefined;

  constructor(effects: EntropyEffects, limits: RateLimits) {
    this.#effects = effects;
    const limiter = new RateLimiter(limits, effects.now());
    this.limiters = [limiter];
    this.#throttle = new Throttle(limiter, effects, () => this.processQueue());
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  reset(): void {
    this.#context = undefined;
    this.#throttle.cancel();
  }

  processQueue(): void {
    const context = this.#context;
    const queue = context?.queues[0];
    if (!context || !queue || this.#throttle.isActive) return;
    const chain = this.#chain;
    do {
      queue.disableNotifications();
      for (;;) {
        if (this.#throttle.check()) {
          context.interrupt(0);
          return;
        }
        const next = queue.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail('its queue has an invalid ring or descriptor chain');
        if (chain.firstWritable > 0)
          return context.fail('its queue has a buffer that the device may not write');
        const written = this.#fill(context, chain);
        this.#throttle.charge(written);
        queue.pushUsed(chain.id, written);
        context.count(0, 0, written);
      }
      context.interrupt(0);
    } while (queue.enableNotifications());
  }

  #fill({ ram }: DeviceContext, chain: Chain): number {
    let done = 0;
    for (let i = 0; i < chain.count && done < MAX_CHAIN_BYTES; i++) {
      const bytes = Math.min(chain.length[i]!, MAX_CHAIN_BYTES - done);
      this.#effects.fill(chain.host[i]!, bytes);
      ram.markWritten(chain.address[i]!, bytes);
      done += bytes;
    }
    return done;
  }
}
