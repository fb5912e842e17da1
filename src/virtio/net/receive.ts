/**
 * Packets to the guest: one receive queue of a network device. (Virtual I/O Device 1.2 §5.1.6.3, §5.1.6.4)
 *
 * How long a packet is shows when it has been read, so buffers for the longest are at hand before: chains are taken
 * from the queue ahead of time and stay at hand for the next packet when they are not needed.
 */
import type { DeviceContext } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { PORT_RESULT, type NetEffects, type NetPort } from './port.ts';
import { NET_HEADER } from './regs.ts';
import { Chain, MAX_CHAIN, NEXT, type Virtqueue } from '../transport/queue.ts';
import type { RateLimiter } from '../transport/rate-limiter.ts';

/** After so many packets the guest is told, and the others on this worker get their turn. */
const PACKETS_AT_ONCE = 64;

export interface ReceiveOptions {
  readonly mergeable: boolean;
  /** Bytes of the longest packet that the port can give, with its header. */
  readonly longest: number;
}

export class Receiver {
  readonly #context: DeviceContext;
  readonly #queue: Virtqueue;
  readonly #index: number;
  readonly #port: NetPort;
  readonly #effects: NetEffects;
  readonly #limiter: RateLimiter;
  readonly #mergeable: boolean;
  #longest: number;
  readonly #chain = new Chain();
  /** Buffers at hand, and the chains they came in: a ring of id, bytes, count of pieces, and where the header says
   * how many chains a packet takes (two addresses, for these two bytes may lie apart). */
  readonly #pieces = new IoVector(2 * MAX_CHAIN);
  readonly #ids: Uint32Array;
  readonly #bytes: Float64Array;
  readonly #counts: Uint32Array;
  readonly #countAt: Float64Array;
  #first = 0;
  #chains = 0;
  /** What a packet that needs one chain alone is read into. */
  readonly #single = new IoVector(MAX_CHAIN);
  /** Whether the port may have a packet. */
  #readable = true;
  #cancelTimer: (() => void) | undefined;

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
    this.#effects = effects;
    this.#limiter = limiter;
    this.#mergeable = options.mergeable;
    this.#longest = options.longest;
    this.#ids = new Uint32Array(queue.size);
    this.#bytes = new Float64Array(queue.size);
    this.#counts = new Uint32Array(queue.size);
    this.#countAt = new Float64Array(2 * queue.size);
  }

  set longest(bytes: number) {
    this.#longest = bytes;
  }

  stop(): void {
    this.#cancelTimer?.();
  }

  /** The port has packets, or may have. */
  portReadable(): void {
    this.#readable = true;
    this.run();
  }

  /** Takes packets as long as there are some, and buffers for them. To be called for a kick, too. */
  run(): void {
    if (!this.#readable || this.#cancelTimer) return;
    let delivered = 0;
    for (;;) {
      const delay = delivered < PACKETS_AT_ONCE ? this.#delayMs() : 0;
      if (delivered >= PACKETS_AT_ONCE || delay > 0) {
        this.#goOnAfter(delay);
        break;
      }
      if (!this.#gather()) break;
      const target = this.#mergeable ? this.#pieces : this.#singleChain();
      const got = this.#port.receive(target);
      if (got === PORT_RESULT.wouldBlock) {
        this.#readable = false;
        break;
      }
      delivered++;
      // Cut off, perhaps: a packet as long as all that was at hand is only whole if it could not be longer.
      if (got < NET_HEADER.size || (got >= target.bytes && got < this.#longest)) continue;
      this.#deliver(got);
    }
    if (delivered > 0) this.#context.interrupt(this.#index);
  }

  /** Takes chains until the longest packet fits. False when there is none, or the ring was found broken. */
  #gather(): boolean {
    const queue = this.#queue;
    for (;;) {
      while (this.#isShort()) {
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) {
          this.#context.fail(`receive queue ${this.#index} makes no sense`);
          return false;
        }
        const taken = this.#takeChain();
        if (taken === 'bad') {
          this.#context.fail(`receive queue ${this.#index} has buffers that nothing can be received into`);
          return false;
        }
        if (taken === 'full') return true;
      }
      // A driver that has all its buffers here and does not reach the longest packet lives with shorter ones.
      if (!this.#isShort() || this.#chains === queue.size) {
        queue.disableNotifications();
        return true;
      }
      if (!queue.enableNotifications()) return false;
    }
  }

  #isShort(): boolean {
    if (this.#chains === this.#queue.size) return false;
    if (!this.#mergeable) return this.#chains === 0;
    return this.#pieces.bytes < this.#longest && this.#pieces.count < MAX_PIECES;
  }

  #takeChain(): 'taken' | 'full' | 'bad' {
    const chain = this.#chain;
    if (chain.firstWritable > 0 || chain.writableBytes < NET_HEADER.size) return 'bad';
    if (this.#pieces.count + chain.count > this.#pieces.capacity) {
      this.#queue.undoNext();
      return 'full';
    }
    this.#pieces.addBuffers(chain, 0, chain.count);
    const at = (this.#first + this.#chains) % this.#queue.size;
    this.#ids[at] = chain.id;
    this.#bytes[at] = chain.writableBytes;
    this.#counts[at] = chain.count;
    this.#countAt[2 * at] = addressAt(chain, NET_HEADER.bufferCount);
    this.#countAt[2 * at + 1] = addressAt(chain, NET_HEADER.bufferCount + 1);
    this.#chains++;
    return 'taken';
  }

  #singleChain(): IoVector {
    const single = this.#single;
    single.clear();
    for (let i = 0; i < this.#counts[this.#first]!; i++) {
      single.add(this.#pieces.hostOf(i), this.#pieces.lengthOf(i));
    }
    return single;
  }

  /** Hands over the chains that `bytes` bytes lie in. */
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
    this.#limiter.charge(bytes);
    this.#context.count(this.#index, 0, bytes);
  }

  /** How many chains the packet takes stands in its header, which may lie in several buffers. */
  #putBufferCount(chains: number): void {
    const { ram } = this.#context;
    ram.storeU8(this.#countAt[2 * this.#first]!, chains & 0xff);
    ram.storeU8(this.#countAt[2 * this.#first + 1]!, chains >>> 8);
  }

  #delayMs(): number {
    return this.#limiter.limited ? this.#limiter.delayMs(this.#effects.now()) : 0;
  }

  #goOnAfter(delayMs: number): void {
    this.#cancelTimer = this.#effects.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.run();
    });
  }
}

/** Guest address of the byte at `offset` in a chain that is long enough. */
function addressAt(chain: Chain, offset: number): number {
  let i = 0;
  while (offset >= chain.length[i]!) offset -= chain.length[i++]!;
  return chain.address[i]! + offset;
}
