/**
 * The block device: parses requests, hands them to its backend, and reports how they ended. Several may be on their
 * way at once and end in any order. (Virtual I/O Device 1.2 §5.2)
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { BLOCK_OP, BlockRequest, type BlockOp } from './request.ts';
import {
  BLOCK_HEADER,
  BLOCK_ID_BYTES,
  BLOCK_REQUEST,
  BLOCK_SEGMENT,
  BLOCK_SEGMENT_UNMAP,
  BLOCK_STATUS,
  SECTOR_BYTES,
} from './regs.ts';
import { MAX_SEGMENTS_AT_ONCE, type BlockShape } from './description.ts';
import type { DeviceContext, VirtioDevice } from '../transport/device.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';

/** Where the bytes are. Every request that is started is ended once, by the function given to `connect`. */
export interface BlockBackend {
  /** `finish(request, errno)`: errno is 0 when all of it was done; else `request.done` bytes of it were. */
  connect(finish: (request: BlockRequest, errno: number) => void): void;
  /** May end it before it returns. */
  start(request: BlockRequest): void;
  /** After a batch of starts. */
  commit(): void;
  /** Returns when all that was started has ended. */
  drain(): void;
}

export interface BlockEffects {
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
}

const NO_TIMER = () => {};

export class BlockDevice implements VirtioDevice {
  readonly #shape: BlockShape;
  readonly #backend: BlockBackend;
  readonly #effects: BlockEffects;
  readonly #limiter: RateLimiter;
  readonly #chain = new Chain();
  readonly #header = new Uint8Array(BLOCK_HEADER.size);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #segments = new Uint8Array(MAX_SEGMENTS_AT_ONCE * BLOCK_SEGMENT.size);
  readonly #segmentsView = new DataView(this.#segments.buffer);
  readonly #id: Uint8Array;
  readonly #free: BlockRequest[] = [];
  #made = 0;
  #context: DeviceContext | undefined;
  /** Queues with used buffers that the driver was not told of, one bit each. */
  #told = 0;
  #waiting = false;
  #cancelTimer = NO_TIMER;

  constructor(shape: BlockShape, backend: BlockBackend, effects: BlockEffects, limits: RateLimits) {
    this.#shape = shape;
    this.#backend = backend;
    this.#effects = effects;
    this.#limiter = new RateLimiter(limits, effects.now());
    this.#id = new Uint8Array(BLOCK_ID_BYTES);
    this.#id.set(new TextEncoder().encode(shape.id).subarray(0, BLOCK_ID_BYTES));
    backend.connect((request, errno) => this.#ended(request, errno));
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  /** What is in flight ends first: it reads from and writes to guest memory. Its driver is not told any more. */
  reset(): void {
    this.#context = undefined;
    this.#backend.drain();
    this.#told = 0;
    this.#cancelTimer();
    this.#waiting = false;
  }

  processQueue(index: number): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#waiting) return;
    do {
      queue.disableNotifications();
      for (;;) {
        if (this.#mustWait()) {
          this.#settle();
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail(`queue ${index} makes no sense`);
        if (!this.#take(context, index)) return;
      }
      this.#settle();
      // What the backend ended in #settle may have found the driver breaking the rules.
      if (this.#context !== context) return;
    } while (queue.enableNotifications());
  }

  /** For backends that end requests outside of `kick`: tells the driver what ended. */
  settleLater(): void {
    this.#interrupt();
  }

  #settle(): void {
    this.#backend.commit();
    this.#interrupt();
  }

  #interrupt(): void {
    const told = this.#told;
    this.#told = 0;
    for (let queue = 0; told >>> queue !== 0; queue++) {
      if ((told >>> queue) & 1) this.#context?.interrupt(queue);
    }
  }

  /** Starts the request in #chain. False when the device gave up on its driver. */
  #take(context: DeviceContext, queue: number): boolean {
    const chain = this.#chain;
    if (chain.readableBytes < BLOCK_HEADER.size || chain.writableBytes === 0) {
      context.fail('a request has no room for its header or status');
      return false;
    }
    chain.copyOut(context.ram, 0, this.#header);
    const request = this.#free.pop() ?? new BlockRequest(this.#made++);
    request.queue = queue;
    request.chainId = chain.id;
    request.type = this.#headerView.getUint32(BLOCK_HEADER.type, true);
    request.done = 0;
    request.bytes = 0;
    request.iovecCount = 0;
    // The status byte is the last one, wherever it lies.
    const last = chain.count - 1;
    request.statusAddress = chain.address[last]! + chain.length[last]! - 1;
    const sector =
      this.#headerView.getUint32(BLOCK_HEADER.sector, true) +
      this.#headerView.getUint32(BLOCK_HEADER.sector + 4, true) * TWO_POW_32;
    const out = chain.readableBytes - BLOCK_HEADER.size;
    const into = chain.writableBytes - 1;
    this.#limiter.charge(out + into);
    switch (request.type) {
      case BLOCK_REQUEST.in:
        if (!this.#fits(sector, into)) this.#end(request, BLOCK_STATUS.ioError, 0);
        else {
          request.takeBuffers(chain, chain.firstWritable, chain.count, 0, into);
          this.#start(request, BLOCK_OP.read, sector * SECTOR_BYTES, into);
        }
        break;
      case BLOCK_REQUEST.out:
        if (this.#shape.readOnly || !this.#fits(sector, out)) this.#end(request, BLOCK_STATUS.ioError, 0);
        else {
          request.takeBuffers(chain, 0, chain.firstWritable, BLOCK_HEADER.size, out);
          this.#start(request, BLOCK_OP.write, sector * SECTOR_BYTES, out);
        }
        break;
      case BLOCK_REQUEST.flush:
        this.#start(request, BLOCK_OP.flush, 0, 0);
        break;
      case BLOCK_REQUEST.getId:
        this.#end(
          request,
          BLOCK_STATUS.ok,
          chain.copyIn(context.ram, 0, this.#id, 0, Math.min(into, BLOCK_ID_BYTES)),
        );
        break;
      case BLOCK_REQUEST.discard:
      case BLOCK_REQUEST.writeZeroes:
        this.#takeRanges(context, request, out);
        break;
      default:
        this.#end(request, BLOCK_STATUS.unsupported, 0);
    }
    return true;
  }

  /** Whether `bytes` from `sector` are whole sectors of this disk. A read or write of nothing is no request. */
  #fits(sector: number, bytes: number): boolean {
    if (bytes === 0 || bytes % SECTOR_BYTES !== 0) return false;
    return sector <= this.#shape.sectors && bytes / SECTOR_BYTES <= this.#shape.sectors - sector;
  }

  #takeRanges(context: DeviceContext, request: BlockRequest, bytes: number): void {
    const status = this.#readRanges(context, request, bytes);
    if (status !== BLOCK_STATUS.ok) {
      request.ranges.length = 0;
      this.#end(request, status, 0);
    } else {
      this.#startRange(request);
    }
  }

  #readRanges(context: DeviceContext, request: BlockRequest, bytes: number): number {
    if (this.#shape.readOnly) return BLOCK_STATUS.ioError;
    if (bytes === 0 || bytes % BLOCK_SEGMENT.size !== 0 || bytes > this.#segments.length)
      return BLOCK_STATUS.ioError;
    this.#chain.copyOut(context.ram, BLOCK_HEADER.size, this.#segments, 0, bytes);
    const view = this.#segmentsView;
    for (let at = 0; at < bytes; at += BLOCK_SEGMENT.size) {
      const sector =
        view.getUint32(at + BLOCK_SEGMENT.sector, true) +
        view.getUint32(at + BLOCK_SEGMENT.sector + 4, true) * TWO_POW_32;
      const count = view.getUint32(at + BLOCK_SEGMENT.sectorCount, true);
      const flags = view.getUint32(at + BLOCK_SEGMENT.flags, true);
      // Only write-zeroes knows a flag, and only one. (§5.2.6.2)
      const known = request.type === BLOCK_REQUEST.writeZeroes ? BLOCK_SEGMENT_UNMAP : 0;
      if (flags & ~known) return BLOCK_STATUS.unsupported;
      if (!this.#fits(sector, count * SECTOR_BYTES)) return BLOCK_STATUS.ioError;
      request.ranges.push([sector * SECTOR_BYTES, count * SECTOR_BYTES, (flags & BLOCK_SEGMENT_UNMAP) !== 0]);
    }
    return BLOCK_STATUS.ok;
  }

  #startRange(request: BlockRequest): void {
    const [offset, bytes, mayUnmap] = request.ranges.pop()!;
    request.mayUnmap = mayUnmap;
    const op = request.type === BLOCK_REQUEST.discard ? BLOCK_OP.discard : BLOCK_OP.zero;
    this.#start(request, op, offset, bytes);
  }

  #start(request: BlockRequest, op: BlockOp, offset: number, bytes: number): void {
    request.op = op;
    request.offset = offset;
    request.bytes = bytes;
    this.#backend.start(request);
  }

  #ended(request: BlockRequest, errno: number): void {
    if (errno === 0 && request.ranges.length > 0) {
      this.#startRange(request);
      return;
    }
    request.ranges.length = 0;
    const status = errno === 0 ? BLOCK_STATUS.ok : BLOCK_STATUS.ioError;
    this.#end(request, status, request.op === BLOCK_OP.read ? request.done : 0);
  }

  /**
   * `written`: bytes of data that the guest finds in its buffers. The used length counts what was written without a
   * gap from the first byte on, so the status byte counts only behind complete data. (§2.7.8.2)
   */
  #end(request: BlockRequest, status: number, written: number): void {
    const context = this.#context;
    this.#free.push(request);
    // Reset meanwhile: this chain is nobody's.
    if (!context) return;
    context.ram.storeU8(request.statusAddress, status);
    const whole =
      request.op !== BLOCK_OP.read || request.type !== BLOCK_REQUEST.in || status === BLOCK_STATUS.ok;
    context.queues[request.queue]?.pushUsed(request.chainId, whole ? written + 1 : written);
    context.count(request.queue, request.op === BLOCK_OP.write ? request.done : 0, written);
    if (status === BLOCK_STATUS.ioError) context.countError(request.queue);
    this.#told |= 1 << request.queue;
  }

  /** True while the rate limit holds; then a timer goes on with all queues. */
  #mustWait(): boolean {
    if (!this.#limiter.limited) return false;
    const delay = this.#limiter.delayMs(this.#effects.now());
    if (delay === 0) return false;
    this.#waiting = true;
    const cancel = this.#effects.after(delay, () => {
      this.#waiting = false;
      for (let queue = 0; queue < this.#shape.queues; queue++) this.processQueue(queue);
    });
    this.#cancelTimer = () => {
      cancel();
      this.#cancelTimer = NO_TIMER;
    };
    return true;
  }
}
