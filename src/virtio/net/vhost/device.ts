/**
 * A network device whose packet queues the kernel serves (vhost-net). The control queue and the configuration space stay
 * with the NetDevice inside.
 */
import { featureWords } from '../../transport/device-state.ts';
import type { DeviceChange } from '../../transport/device-change.ts';
import type { DeviceContext, VirtioDevice } from '../../transport/device.ts';
import type { QueuePosition, QueueSetup } from '../../transport/queue.ts';
import { NET_FEATURE } from '../regs.ts';

/** One ring to hand to the kernel. */
export interface RingToServe {
  readonly queue: number;
  readonly setup: QueueSetup;
  readonly base: number;
}

export interface VhostNetEffects {
  /** Hands rings over. Throws an Error with a clause that says why the kernel does not take them. */
  start(features: readonly [low: number, high: number], rings: readonly RingToServe[]): void;
  /** Takes rings back, and returns where each of them stands. */
  stop(queues: readonly number[]): number[];
  /** Makes notifications of this queue call `processQueue`. */
  watchNotifications(queue: number, on: boolean): void;
  /** Marks the pages that the kernel has written, and those of the used rings, for a snapshot. */
  collectWrites(context: DeviceContext, rings: readonly QueueSetup[]): void;
}

export class VhostNetDevice implements VirtioDevice {
  readonly #net: VirtioDevice;
  readonly #effects: VhostNetEffects;
  readonly #pairs: number;
  #context: DeviceContext | undefined;
  #running: number[] = [];
  #positions: (number | undefined)[] = [];
  #controlQueue = -1;

  /** `net` serves the control queue and no other. */
  constructor(net: VirtioDevice, pairs: number, effects: VhostNetEffects) {
    this.#net = net;
    this.#pairs = pairs;
    this.#effects = effects;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    const pairs = context.hasFeature(NET_FEATURE.mq) ? this.#pairs : 1;
    this.#controlQueue = 2 * pairs;
    this.#positions = context.queues
      .slice(0, this.#controlQueue)
      .map((queue) => queue && queue.position().next);
    this.#effects.watchNotifications(this.#controlQueue, true);
    this.#net.activate(context);
    this.#start();
  }

  processQueue(queue: number): void {
    if (this.#context && queue === this.#controlQueue) this.#net.processQueue(queue);
  }

  reset(): void {
    this.#stop();
    if (this.#context) this.#effects.watchNotifications(this.#controlQueue, false);
    this.#context = undefined;
    this.#net.reset();
  }

  drain(): string | undefined {
    const context = this.#context;
    if (!context) return undefined;
    const setups = this.#running.map((queue) => context.queueSetup(queue)!);
    this.#stop();
    this.#effects.collectWrites(context, setups);
    return undefined;
  }

  position(queue: number): QueuePosition | undefined {
    const next = this.#positions[queue];
    return next === undefined ? undefined : { next, wrap: 1 };
  }

  resume(): void {
    this.#start();
  }

  save(words: Int32Array): void {
    this.#net.save?.(words);
  }

  restore(words: Int32Array): void {
    this.#net.restore?.(words);
  }

  change(change: DeviceChange, setConfig: DeviceContext['setConfig']): void {
    if (change.kind === 'net-limits') throw new Error('the kernel serves it (vhost), which has no limits');
    this.#net.change?.(change, setConfig);
  }

  /** The kernel found a ring or a descriptor invalid, and serves that ring no more. */
  ringFailed(): void {
    this.#context?.fail('the kernel found a ring or a descriptor chain of it invalid');
  }

  #start(): void {
    const context = this.#context;
    if (!context) return;
    const rings = this.#positions.flatMap((base, queue) => {
      const setup = context.queueSetup(queue);
      return setup && base !== undefined ? [{ queue, setup, base }] : [];
    });
    const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => context.hasFeature(bit));
    try {
      this.#running = rings.map(({ queue }) => queue);
      this.#effects.start(featureWords(bits), rings);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      context.fail(`the kernel does not take its queues: ${error.message}`, 'host');
    }
  }

  #stop(): void {
    const running = this.#running.splice(0);
    const bases = this.#effects.stop(running);
    running.forEach((queue, i) => (this.#positions[queue] = bases[i]));
  }
}
