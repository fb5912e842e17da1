/** Packets from the guest: one transmit queue of a network device. (Virtual I/O Device 1.2 §5.1.6.2) */
import type { DeviceContext } from '../transport/device.ts';
import { IoVector } from '../transport/io-vector.ts';
import { PORT_RESULT, type NetEffects, type NetPort } from './port.ts';
import { ETHERNET_HEADER_BYTES, LARGEST_PACKET_BYTES, NET_HEADER } from './regs.ts';
import { Chain, MAX_CHAIN, NEXT, type Virtqueue } from '../transport/queue.ts';
import type { RateLimiter } from '../transport/rate-limiter.ts';
import { Throttle } from '../transport/throttle.ts';

/** Packets in one batch, after which the worker's other devices run. */
const PACKETS_AT_ONCE = 256;
const SMALLEST_PACKET_BYTES = NET_HEADER.size + ETHERNET_HEADER_BYTES;

export class Transmitter {
  readonly #context: DeviceContext;
  readonly #queue: Virtqueue;
  readonly #index: number;
  readonly #port: NetPort;
  readonly #throttle: Throttle;
  readonly #chain = new Chain();
  readonly #packet = new IoVector(MAX_CHAIN);
  /** The port is full. */
  #blocked = false;

  constructor(
    context: DeviceContext,
    queue: Virtqueue,
    index: number,
    port: NetPort,
    effects: NetEffects,
    limiter: RateLimiter,
  ) {
    this.#context = context;
    this.#queue = queue;
    this.#index = index;
    this.#port = port;
    this.#throttle = new Throttle(limiter, effects, () => this.processQueue());
  }

  stop(): void {
    this.#throttle.cancel();
  }

  limitsChanged(): void {
    this.#throttle.limitsChanged();
  }

  /** The port may accept packets again. */
  portWritable(): void {
    if (this.#blocked) this.processQueue();
  }

  /** Sends the packets in the queue. Called when it is notified. */
  processQueue(): void {
    if (this.#throttle.isActive) return;
    this.#blocked = false;
    let left = PACKETS_AT_ONCE;
    do {
      this.#queue.disableNotifications();
      for (;;) {
        if (left === 0) this.#throttle.pause(0);
        if (left-- === 0 || this.#throttle.check()) {
          this.#context.interrupt(this.#index);
          return;
        }
        const next = this.#queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return this.#context.fail(`transmit queue ${this.#index} has an invalid ring or descriptor chain`);
        if (!this.#sendChain()) {
          this.#context.interrupt(this.#index);
          return;
        }
      }
      this.#context.interrupt(this.#index);
    } while (this.#queue.enableNotifications());
  }

  /** False when the port is full; the chain then stays in the queue. */
  #sendChain(): boolean {
    const chain = this.#chain;
    const packet = this.#packet;
    const bytes = chain.readableBytes;
    // Only the length is checked here. The port drops any other packet that it rejects.
    let sent: number = PORT_RESULT.dropped;
    if (bytes >= SMALLEST_PACKET_BYTES && bytes <= LARGEST_PACKET_BYTES) {
      packet.clear();
      packet.addBuffers(chain, 0, chain.firstWritable);
      sent = this.#port.send(packet);
      if (sent === PORT_RESULT.wouldBlock) {
        this.#queue.undoNext();
        this.#blocked = true;
        return false;
      }
    }
    if (sent === PORT_RESULT.dropped) this.#context.countError(this.#index);
    this.#throttle.charge(bytes);
    this.#queue.pushUsed(chain.id, 0);
    this.#context.count(this.#index, bytes, 0);
    return true;
  }
}
