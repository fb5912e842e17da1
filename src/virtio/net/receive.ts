/**
 * Packets to the guest: one receive queue of a network device. (Virtual I/O Device 1.2 §5.1.6.3, §5.1.6.4)
 *
 * A packet's length is known only once it has been read, so there must be buffers for the longest one before:
 * chains are fetched from the queue ahead of time, and those that a packet does not need are kept for the
 * next.
 */
import type { DeviceContext } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { PORT_RESULT, type NetEffects, type NetPort } from './port.ts';
import { NET_HEADER } from './regs.ts';
import { Chain, MAX_CHAIN, NEXT, type Virtqueue } from '../transport/queue.ts';
import type { RateLimiter } from '../transport/rate-limiter.ts';
import { Throttle } from '../transport/throttle.ts';

/** Packets in one batch, after which the guest is interrupted and the worker's other devices run. */
const PACKETS_AT_ONCE = 64;

export interface ReceiveOptions {
  readonly mergeable: boolean;
  /** Bytes of the longest packet that the port can deliver, with its header. */
  readonly maxPacketBytes: number;
}

export class Receiver {
  readonly #context: DeviceContext;
  readonly #queue: Virtqueue;
  readonly #index: number;
  readonly #port: NetPort;
  readonly #throttle: Throttle;
  readonly #mergeable: boolean;
  #maxPacketBytes: number;
  readonly #chain = new Chain();
  /**
   * Fetched buffers, and a ring of their chains: id, bytes, number of pieces, and the guest addresses of the
   * two bytes of num_buffers in the header, which may lie in different buffers.
   */
  readonly #pieces = new IoVector(2 * MAX_CHAIN);
  readonly #ids: Uint32Array;
  readonly #bytes: Float64Array;
  readonly #counts: Uint32Array;
  readonly #bufferCountAt: Float64Array;
  #first = 0;
  #chains = 0;
  /** The first chain, for drivers without mergeable buffers. */
  readonly #single = new IoVector(MAX_CHAIN);
  /** Whether the port may have a packet. */
  #readable = true;

  constructor(
    context: DeviceContext,
    queue: Virtqueue,
    index: number,
    port: NetPort,
    effects: NetEffects,
    limiter: RateLimiter,
    options: ReceiveOptions,
  ) {
    this.#context = context;
    this.#queue = queue;
    this.#index = index;
    this.#port = port;
    this.#throttle = new Throttle(limiter, effects, () => this.processQueue());
    this.#mergeable = options.mergeable;
    this.#maxPacketBytes = options.maxPacketBytes;
    this.#ids = new Uint32Array(queue.size);
    this.#bytes = new Float64Array(queue.size);
    this.#counts = new Uint32Array(queue.size);
    this.#bufferCountAt = new Float64Array(2 * queue.size);
  }

  set maxPacketBytes(bytes: number) {
    this.#maxPacketBytes = bytes;
  }

  stop(): void {
    this.#throttle.cancel();
  }

  limitsChanged(): void {
    this.#throttle.limitsChanged();
  }

  /** The port may have packets. */
  portReadable(): void {
    this.#readable = true;
    this.processQueue();
  }

  /**
   * Delivers packets while the port has some and the guest has buffers. Also called when the queue is
   * notified.
   */
  processQueue(): void {
    if (!this.#readable || this.#throttle.isActive) return;
    let delivered = 0;
    for (;;) {
      if (delivered === PACKETS_AT_ONCE) {
        this.#throttle.pause(0);
        break;
      }
      if (this.#throttle.check()) break;
      if (!this.#fetchChains()) break;
      const target = this.#mergeable ? this.#pieces : this.#firstChain();
      const got = this.#port.receive(target);
      if (got === PORT_RESULT.wouldBlock) {
        this.#readable = false;
        break;
      }
      delivered++;
      this.#context.ram.markVectorWritten(target, got);
      // A packet that fills all buffers may have been truncated, unless no packet can be longer.
      if (got < NET_HEADER.size || (got >= target.bytes && got < this.#maxPacketBytes)) continue;
      this.#deliver(got);
    }
    if (delivered > 0) this.#context.interrupt(this.#index);
  }

  /** Fetches chains until the longest packet fits. False when there is none, or the ring is invalid. */
  #fetchChains(): boolean {
    const queue = this.#queue;
    for (;;) {
      while (this.#needsChains()) {
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) {
          this.#context.fail(`receive queue ${this.#index} has an invalid ring or descriptor chain`);
          return false;
        }
        const added = this.#addChain();
        if (added === 'invalid') {
          this.#context.fail(
            `receive queue ${this.#index} has a read-only buffer, or one shorter than the packet header`,
          );
          return false;
        }
        if (added === 'full') return true;
      }
      // With the whole ring fetched and still not enough for the longest packet, shorter ones can be
      // received.
      if (!this.#needsChains() || this.#chains === queue.size) {
        queue.disableNotifications();
        return true;
      }
      if (!queue.enableNotifications()) return false;
    }
  }

  #needsChains(): boolean {
    if (this.#chains === this.#queue.size) return false;
    if (!this.#mergeable) return this.#chains === 0;
    return this.#pieces.bytes < this.#maxPacketBytes && this.#pieces.count < MAX_PIECES;
  }

  /** Adds #chain to the fetched buffers. */
  #addChain(): 'added' | 'full' | 'invalid' {
    const chain = this.#chain;
    if (chain.firstWritable > 0 || chain.writableBytes < NET_HEADER.size) return 'invalid';
    if (this.#pieces.count + chain.count > this.#pieces.capacity) {
      this.#queue.undoNext();
      return 'full';
    }
    this.#pieces.addBuffers(chain, 0, chain.count);
    const at = (this.#first + this.#chains) % this.#queue.size;
    this.#ids[at] = chain.id;
    this.#bytes[at] = chain.writableBytes;
    this.#counts[at] = chain.count;
    this.#bufferCountAt[2 * at] = addressAt(chain, NET_HEADER.bufferCount);
    this.#bufferCountAt[2 * at + 1] = addressAt(chain, NET_HEADER.bufferCount + 1);
    this.#chains++;
    return 'added';
  }

  #firstChain(): IoVector {
    const single = this.#single;
    single.clear();
    for (let i = 0; i < this.#counts[this.#first]!; i++) {
      single.add(this.#pieces.hostOf(i), this.#pieces.lengthOf(i));
    }
    return single;
  }

  /** Returns the chains of a packet of `bytes` bytes to the driver. */
  #deliver(bytes: number): void {
    let [left, chains] = [bytes, 0];
    while (left > 0) left -= this.#bytes[(this.#first + chains++) % this.#queue.size]!;
    this.#putBufferCount(chains);
    left = bytes;
    for (let i = 1; i <= chains; i++) {
      const at = this.#first;
      const written = Math.min(left, this.#bytes[at]!);
      left -= written;
      this.#pieces.drop(this.#counts[at]!);
      this.#first = (at + 1) % this.#queue.size;
      this.#chains--;
      if (i < chains) this.#queue.stageUsed(this.#ids[at]!, written);
      else this.#queue.pushUsed(this.#ids[at]!, written);
    }
    this.#throttle.charge(bytes);
    this.#context.count(this.#index, 0, bytes);
  }

  /** Writes num_buffers, the packet's number of chains, into its header, which may span buffers. */
  #putBufferCount(chains: number): void {
    const { ram } = this.#context;
    ram.storeU8(this.#bufferCountAt[2 * this.#first]!, chains & 0xff);
    ram.storeU8(this.#bufferCountAt[2 * this.#first + 1]!, chains >>> 8);
  }
}

/** Guest address of the byte at `offset` in a chain that is long enough. */
function addressAt(chain: Chain, offset: number): number {
  let i = 0;
  while (offset >= chain.length[i]!) offset -= chain.length[i++]!;
  return chain.address[i]! + offset;
}
