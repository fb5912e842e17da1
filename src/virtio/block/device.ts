/**
 * The block device: parses requests, starts them on its backend and returns their status. Several may be in
 * flight and may complete in any order. (Virtual I/O Device 1.2 §5.2.6)
 */
import { putU64, TWO_POW_32, viewOf } from '../../binary/bytes.ts';
import { BLOCK_OP, BlockRequest, type BlockOp } from './request.ts';
import {
  BLOCK_CONFIG,
  BLOCK_HEADER,
  BLOCK_ID_BYTES,
  BLOCK_REQUEST,
  BLOCK_SEGMENT,
  BLOCK_SEGMENT_UNMAP,
  BLOCK_STATUS,
  SECTOR_BYTES,
} from './regs.ts';
import { MAX_RANGE_SEGMENTS, type BlockShape } from './description.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { DeviceContext, VirtioDevice } from '../transport/device.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';
import { Throttle, type ThrottleEffects } from '../transport/throttle.ts';

/** Storage behind the device. The backend completes each started request once, by `complete` of `connect`. */
export interface BlockBackend {
  /** `complete(request, errno)`: errno 0 means all bytes were transferred, else `request.done` of them. */
  connect(complete: (request: BlockRequest, errno: number) => void): void;
  /** Starts the request, and may complete it before returning. */
  start(request: BlockRequest): void;
  /** Submits the requests started since the last call. */
  commit(): void;
  /** Blocks until no request is in flight. */
  drain(): void;
  /** Makes all completed writes durable. Returns 0 or errno. */
  flush(): number;
}

export interface BlockEffects extends ThrottleEffects {
  /** Gives the backend for another file; undefined: the file cannot be replaced. */
  readonly openBackend?: (fd: number) => BlockBackend;
}

export class BlockDevice implements VirtioDevice {
  readonly limiters: readonly RateLimiter[];
  #shape: BlockShape;
  #backend: BlockBackend;
  readonly #effects: BlockEffects;
  readonly #limiter: RateLimiter;
  readonly #throttle: Throttle;
  readonly #chain = new Chain();
  readonly #header = new Uint8Array(BLOCK_HEADER.size);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #segments = new Uint8Array(MAX_RANGE_SEGMENTS * BLOCK_SEGMENT.size);
  readonly #segmentsView = new DataView(this.#segments.buffer);
  readonly #id: Uint8Array;
  readonly #free: BlockRequest[] = [];
  #made = 0;
  #context: DeviceContext | undefined;
  /** Bit mask of queues with used buffers that have not raised an interrupt yet. */
  #pendingInterrupts = 0;

  constructor(shape: BlockShape, backend: BlockBackend, effects: BlockEffects, limits: RateLimits) {
    this.#shape = shape;
    this.#backend = backend;
    this.#effects = effects;
    this.#limiter = new RateLimiter(limits, effects.now());
    this.limiters = [this.#limiter];
    this.#throttle = new Throttle(this.#limiter, effects, () => this.#processQueues());
    this.#id = new Uint8Array(BLOCK_ID_BYTES);
    this.#id.set(new TextEncoder().encode(shape.id).subarray(0, BLOCK_ID_BYTES));
    this.#connect(backend);
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  /**
   * Waits for requests in flight, which access guest memory; their used buffers are not returned any more.
   */
  reset(): void {
    this.#context = undefined;
    this.#backend.drain();
    this.#pendingInterrupts = 0;
    this.#throttle.cancel();
  }

  change(change: DeviceChange, setConfig: DeviceContext['setConfig']): void {
    switch (change.kind) {
      case 'limits':
        this.#limiter.update(change.limits, this.#effects.now());
        return this.#throttle.limitsChanged();
      case 'disk-file':
        return this.#changeFile(change, setConfig);
      default:
        throw new Error('a disk has limits and a file only');
    }
  }

  /** Requests in flight go to the old file; the driver hears of the new size. */
  #changeFile(
    { fd, sectors }: Extract<DeviceChange, { kind: 'disk-file' }>,
    setConfig: DeviceContext['setConfig'],
  ): void {
    const { openBackend } = this.#effects;
    if (!openBackend) throw new Error('this disk has an overlay');
    this.#backend.drain();
    this.#interrupt();
    this.#connect(openBackend(fd));
    this.#shape = { ...this.#shape, sectors };
    const capacity = new Uint8Array(8);
    putU64(viewOf(capacity), 0, sectors);
    setConfig(BLOCK_CONFIG.capacity, capacity);
  }

  #connect(backend: BlockBackend): void {
    this.#backend = backend;
    backend.connect((request, errno) => this.#completed(request, errno));
  }

  drain(): string | undefined {
    this.#backend.drain();
    this.#interrupt();
    if (this.#shape.readOnly || !this.#shape.flush) return undefined;
    const errno = this.#backend.flush();
    return errno === 0 ? undefined : `its writes could not be made durable (errno ${errno})`;
  }

  processQueue(index: number): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#throttle.isActive) return;
    do {
      queue.disableNotifications();
      for (;;) {
        if (this.#throttle.check()) {
          this.#flushBatch();
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return context.fail(`queue ${index} has an invalid ring or descriptor chain`);
        if (!this.#parseRequest(context, index)) return;
      }
      this.#flushBatch();
      // Completing a request can fail the device when the driver has corrupted its ring.
      if (this.#context !== context) return;
    } while (queue.enableNotifications());
  }

  #processQueues(): void {
    for (let queue = 0; queue < this.#shape.queues; queue++) this.processQueue(queue);
  }

  /** Raises the interrupts of requests that the backend completed outside `processQueue`. */
  raiseInterrupts(): void {
    this.#interrupt();
  }

  /** Submits started requests to the backend and raises the interrupts that are pending. */
  #flushBatch(): void {
    this.#backend.commit();
    this.#interrupt();
  }

  #interrupt(): void {
    const pending = this.#pendingInterrupts;
    this.#pendingInterrupts = 0;
    for (let queue = 0; pending >>> queue !== 0; queue++) {
      if ((pending >>> queue) & 1) this.#context?.interrupt(queue);
    }
  }

  /** Parses and starts the request in #chain. False when the request is malformed, which fails the device. */
  #parseRequest(context: DeviceContext, queue: number): boolean {
    const chain = this.#chain;
    if (chain.readableBytes < BLOCK_HEADER.size || chain.writableBytes === 0) {
      context.fail('a block request has no room for its header or status byte');
      return false;
    }
    chain.copyOut(context.ram, 0, this.#header);
    const request = this.#free.pop() ?? new BlockRequest(this.#made++);
    request.ram = context.ram;
    request.queue = queue;
    request.chainId = chain.id;
    request.type = this.#headerView.getUint32(BLOCK_HEADER.type, true);
    request.done = 0;
    request.bytes = 0;
    request.iovecCount = 0;
    // The status is the last device-writable byte, whatever the buffers' layout. (§2.7.4, §5.2.6)
    const last = chain.count - 1;
    request.statusAddress = chain.address[last]! + chain.length[last]! - 1;
    const sector =
      this.#headerView.getUint32(BLOCK_HEADER.sector, true) +
      this.#headerView.getUint32(BLOCK_HEADER.sector + 4, true) * TWO_POW_32;
    const outBytes = chain.readableBytes - BLOCK_HEADER.size;
    const inBytes = chain.writableBytes - 1;
    this.#throttle.charge(outBytes + inBytes);
    switch (request.type) {
      case BLOCK_REQUEST.in:
        if (!this.#isInDisk(sector, inBytes)) this.#end(request, BLOCK_STATUS.ioError, 0);
        else {
          request.setBuffers(chain, chain.firstWritable, chain.count, 0, inBytes);
          this.#start(request, BLOCK_OP.read, sector * SECTOR_BYTES, inBytes);
        }
        break;
      case BLOCK_REQUEST.out:
        if (this.#shape.readOnly || !this.#isInDisk(sector, outBytes))
          this.#end(request, BLOCK_STATUS.ioError, 0);
        else {
          request.setBuffers(chain, 0, chain.firstWritable, BLOCK_HEADER.size, outBytes);
          this.#start(request, BLOCK_OP.write, sector * SECTOR_BYTES, outBytes);
        }
        break;
      case BLOCK_REQUEST.flush:
        this.#start(request, BLOCK_OP.flush, 0, 0);
        break;
      case BLOCK_REQUEST.getId:
        this.#end(
          request,
          BLOCK_STATUS.ok,
          chain.copyIn(context.ram, 0, this.#id, 0, Math.min(inBytes, BLOCK_ID_BYTES)),
        );
        break;
      case BLOCK_REQUEST.discard:
      case BLOCK_REQUEST.writeZeroes:
        this.#startRanges(context, request, outBytes);
        break;
      default:
        this.#end(request, BLOCK_STATUS.unsupported, 0);
    }
    return true;
  }

  /** Whether `bytes` from `sector` on are whole sectors inside this disk, at least one. */
  #isInDisk(sector: number, bytes: number): boolean {
    if (bytes === 0 || bytes % SECTOR_BYTES !== 0) return false;
    return sector <= this.#shape.sectors && bytes / SECTOR_BYTES <= this.#shape.sectors - sector;
  }

  /** Parses the segments of a discard or write-zeroes request, and starts the first. (§5.2.6) */
  #startRanges(context: DeviceContext, request: BlockRequest, bytes: number): void {
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
      // Only write-zeroes has a flag: unmap. Reserved bits must be refused. (§5.2.6.2)
      const known = request.type === BLOCK_REQUEST.writeZeroes ? BLOCK_SEGMENT_UNMAP : 0;
      if (flags & ~known) return BLOCK_STATUS.unsupported;
      if (!this.#isInDisk(sector, count * SECTOR_BYTES)) return BLOCK_STATUS.ioError;
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

  #completed(request: BlockRequest, errno: number): void {
    if (errno === 0 && request.ranges.length > 0) {
      this.#startRange(request);
      return;
    }
    request.ranges.length = 0;
    if (errno !== 0) request.markFilled(request.bytes);
    const status = errno === 0 ? BLOCK_STATUS.ok : BLOCK_STATUS.ioError;
    this.#end(request, status, request.op === BLOCK_OP.read ? request.done : 0);
  }

  /**
   * Returns the chain with its status. `written` is the number of data bytes in the guest's buffers. The used
   * length counts bytes written without a gap from the first, so it includes the status only after complete
   * data. (§2.7.8.2)
   */
  #end(request: BlockRequest, status: number, written: number): void {
    const context = this.#context;
    this.#free.push(request);
    // The device was reset: its queues are gone.
    if (!context) return;
    context.ram.storeU8(request.statusAddress, status);
    const isComplete =
      request.op !== BLOCK_OP.read || request.type !== BLOCK_REQUEST.in || status === BLOCK_STATUS.ok;
    context.queues[request.queue]?.pushUsed(request.chainId, isComplete ? written + 1 : written);
    context.count(request.queue, request.op === BLOCK_OP.write ? request.done : 0, written);
    if (status === BLOCK_STATUS.ioError) context.countError(request.queue);
    this.#pendingInterrupts |= 1 << request.queue;
  }
}
