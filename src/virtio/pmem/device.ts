/**
 * The persistent memory device: a file that is mapped into guest memory. Its only request flushes what the
 * guest has written there. (Virtual I/O Device 1.2 §5.19)
 */
import { putU64, viewOf } from '../../binary/bytes.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { PMEM_CONFIG, PMEM_REQUEST, PMEM_REQUEST_BYTES, PMEM_RESULT, PMEM_RESULT_BYTES } from './regs.ts';
import { Chain, NEXT, type Virtqueue } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';
import { Throttle, type ThrottleEffects } from '../transport/throttle.ts';

const QUEUE_SIZE = 64;

/** Queues and configuration space. (§5.19.2, §5.19.4) */
export function describePmem({ address, bytes }: { address: number; bytes: number }): DeviceDescription {
  const config = new Uint8Array(PMEM_CONFIG.size);
  putU64(viewOf(config), PMEM_CONFIG.start, address);
  putU64(viewOf(config), PMEM_CONFIG.bytes, bytes);
  return { type: DEVICE_TYPE.pmem, features: [], queueSizes: [QUEUE_SIZE], config };
}

export interface PmemEffects extends ThrottleEffects {
  /** Makes all writes durable. Returns 0 or errno. */
  flush(): number;
}

export class PmemDevice implements VirtioDevice {
  readonly limiters: readonly RateLimiter[];
  readonly #effects: PmemEffects;
  readonly #limiter: RateLimiter;
  readonly #throttle: Throttle;
  /** What a flush costs by the rate limit: it covers the whole file. */
  readonly #fileBytes: number;
  readonly #chain = new Chain();
  readonly #word = new Uint8Array(4);
  readonly #wordView = viewOf(this.#word);
  /** Flush requests that one flush of the file answers: chain ids, and guest addresses of the results. */
  readonly #ids = new Float64Array(QUEUE_SIZE);
  readonly #results = new Float64Array(QUEUE_SIZE);
  #context: DeviceContext | undefined;

  constructor(effects: PmemEffects, fileBytes: number, limits: RateLimits) {
    this.#effects = effects;
    this.#fileBytes = fileBytes;
    this.#limiter = new RateLimiter(limits, effects.now());
    this.limiters = [this.#limiter];
    this.#throttle = new Throttle(this.#limiter, effects, () => this.processQueue());
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  reset(): void {
    this.#context = undefined;
    this.#throttle.cancel();
  }

  change(change: DeviceChange): void {
    if (change.kind !== 'limits') throw new Error('persistent memory has limits only');
    this.#limiter.update(change.limits, this.#effects.now());
    this.#throttle.limitsChanged();
  }

  drain(): string | undefined {
    const errno = this.#effects.flush();
    return errno === 0 ? undefined : `its writes could not be made durable (errno ${errno})`;
  }

  processQueue(): void {
    const context = this.#context;
    const queue = context?.queues[0];
    if (!context || !queue || this.#throttle.isActive) return;
    do {
      queue.disableNotifications();
      if (this.#throttle.check()) return;
      const count = this.#fetchFlushes(context, queue);
      if (count < 0) return;
      if (count > 0) this.#flush(context, queue, count);
      context.interrupt(0);
    } while (queue.enableNotifications());
  }

  /** Fetches all requests; returns the number of flushes to answer, or -1 when a request is malformed. */
  #fetchFlushes(context: DeviceContext, queue: Virtqueue): number {
    const chain = this.#chain;
    let count = 0;
    while (count < QUEUE_SIZE) {
      const next = queue.next(chain);
      if (next === NEXT.none) break;
      const isMalformed =
        next === NEXT.broken ||
        chain.readableBytes < PMEM_REQUEST_BYTES ||
        chain.writableBytes < PMEM_RESULT_BYTES;
      if (isMalformed) {
        context.fail('its queue has an invalid ring or a malformed request');
        return -1;
      }
      chain.copyOut(context.ram, 0, this.#word);
      const result = chain.firstWritable;
      if (this.#wordView.getUint32(0, true) !== PMEM_REQUEST.flush) {
        this.#answer(context, queue, chain.id, PMEM_RESULT.failed);
      } else if (chain.length[result]! < PMEM_RESULT_BYTES) {
        // A result split over buffers, which no known driver uses, is answered by a flush of its own.
        this.#answer(context, queue, chain.id, this.#flushFile());
      } else {
        this.#ids[count] = chain.id;
        this.#results[count++] = chain.address[result]!;
      }
    }
    return count;
  }

  /** One flush of the file answers all requests that were fetched before it. */
  #flush(context: DeviceContext, queue: Virtqueue, count: number): void {
    this.#wordView.setUint32(0, this.#flushFile(), true);
    for (let i = 0; i < count; i++) {
      context.ram.copyIn(this.#results[i]!, this.#word, 0, PMEM_RESULT_BYTES);
      this.#push(context, queue, this.#ids[i]!);
    }
  }

  #flushFile(): number {
    this.#throttle.charge(this.#fileBytes);
    return this.#effects.flush() === 0 ? PMEM_RESULT.ok : PMEM_RESULT.failed;
  }

  /** Answers the chain in #chain. */
  #answer(context: DeviceContext, queue: Virtqueue, id: number, result: number): void {
    this.#wordView.setUint32(0, result, true);
    this.#chain.copyIn(context.ram, 0, this.#word);
    this.#push(context, queue, id);
  }

  #push(context: DeviceContext, queue: Virtqueue, id: number): void {
    queue.pushUsed(id, PMEM_RESULT_BYTES);
    context.count(0, PMEM_REQUEST_BYTES, PMEM_RESULT_BYTES);
  }
}
