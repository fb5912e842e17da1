/**
 * The interface of a virtqueue, split or packed: descriptor chains out, used buffers back. The
 * implementations read each guest-controlled field once and check it. Every buffer of a chain that a device
 * gets is in RAM.
 */
import type { GuestRam } from './guest-ram.ts';

/** Result of `next`. `broken`: the ring or the chain is invalid, and the device needs a reset. */
export const NEXT = { none: 0, chain: 1, broken: 2 } as const;
export type Next = (typeof NEXT)[keyof typeof NEXT];

/**
 * Most buffers of a descriptor chain: as many as one preadv takes (UIO_MAXIOV). Longer chains are invalid.
 */
export const MAX_CHAIN = 1024;

/** The total length of a chain is below this. (§2.7.5.2, §2.8.5.2) */
const MAX_CHAIN_BYTES = 2 ** 32;

/**
 * One descriptor chain: first the device-readable buffers, then the device-writable ones. Created once and
 * reused; its contents are valid until the next call of `Virtqueue.next`.
 */
export class Chain {
  /** Buffer id, to pass to `pushUsed`. */
  id = 0;
  count = 0;
  /** Index of the first device-writable buffer; `count` if there is none. */
  firstWritable = 0;
  readableBytes = 0;
  writableBytes = 0;
  /** Guest physical address, host address and length of each buffer. No length is 0. */
  readonly address = new Float64Array(MAX_CHAIN);
  readonly host = new Float64Array(MAX_CHAIN);
  readonly length = new Float64Array(MAX_CHAIN);

  clear(id: number): void {
    this.id = id;
    this.count = 0;
    this.firstWritable = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
  }

  /**
   * Appends a buffer. Returns false if the chain becomes invalid or too long, or the buffer is not in RAM.
   */
  add(ram: GuestRam, address: number, length: number, writable: boolean): boolean {
    const { count } = this;
    // Device-readable buffers come first. (§2.7.4.2)
    if (!writable && this.firstWritable < count) return false;
    // Known drivers add no empty buffers. Devices need not handle them.
    if (length === 0) return true;
    if (count === MAX_CHAIN) return false;
    if (this.readableBytes + this.writableBytes + length >= MAX_CHAIN_BYTES) return false;
    const host = ram.hostAddress(address, length);
    if (host === 0) return false;
    this.address[count] = address;
    this.host[count] = host;
    this.length[count] = length;
    this.count = count + 1;
    if (writable) {
      this.writableBytes += length;
    } else {
      this.readableBytes += length;
      this.firstWritable = count + 1;
    }
    return true;
  }

  /**
   * Copies up to `bytes` bytes from `offset` in the device-readable part to `target[at…]`. Returns the number
   * of bytes copied.
   */
  copyOut(ram: GuestRam, offset: number, target: Uint8Array, at = 0, bytes = target.length - at): number {
    return this.#forEach(ram, false, 0, this.firstWritable, offset, target, at, bytes);
  }

  /**
   * Copies up to `bytes` bytes of `source[at…]` to `offset` in the device-writable part. Returns the number
   * of bytes copied.
   */
  copyIn(ram: GuestRam, offset: number, source: Uint8Array, at = 0, bytes = source.length - at): number {
    return this.#forEach(ram, true, this.firstWritable, this.count, offset, source, at, bytes);
  }

  #forEach(
    ram: GuestRam,
    write: boolean,
    from: number,
    to: number,
    skip: number,
    other: Uint8Array,
    at: number,
    bytes: number,
  ): number {
    let done = 0;
    for (let i = from; i < to && done < bytes; i++) {
      const length = this.length[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const piece = Math.min(length - skip, bytes - done);
      const address = this.address[i]! + skip;
      if (write) ram.copyIn(address, other, at + done, piece);
      else ram.copyOut(address, other, at + done, piece);
      done += piece;
      skip = 0;
    }
    return done;
  }
}

/**
 * One virtqueue. A device processes it in a loop:
 * `do { disableNotifications(); while (next(chain) === NEXT.chain) …; } while (enableNotifications())`.
 */
export interface Virtqueue {
  readonly size: number;
  /** Takes the next available descriptor chain. */
  next(chain: Chain): Next;
  /** Marks a chain as used. `writtenBytes` counts from the start of its device-writable part. */
  pushUsed(id: number, writtenBytes: number): void;
  /**
   * Like `pushUsed`, but the next `pushUsed` makes it visible: for chains that the driver must see together.
   */
  stageUsed(id: number, writtenBytes: number): void;
  /** Makes the chain of the last `next` available again. */
  undoNext(): void;
  /** Whether the driver wants a used buffer notification for the buffers used since the last call. */
  shouldInterrupt(): boolean;
  /** Asks the driver to send no available buffer notifications. */
  disableNotifications(): void;
  /**
   * Asks the driver for available buffer notifications again. Returns true if a chain is already available,
   * for which the driver may have sent no notification.
   */
  enableNotifications(): boolean;
  /** Number of chains taken and not yet used. */
  readonly inFlight: number;
  /**
   * Where the queue stands, for a device that continues elsewhere. Chains in flight count as not taken. They
   * must be the newest ones: a device that uses chains out of order completes all of them before.
   */
  position(): QueuePosition;
}

/** Where a queue of a device without chains in flight stands, in the available and the used ring alike. */
export interface QueuePosition {
  /** Split: both ring indexes, modulo 2^16. Packed: index of the next descriptor. */
  readonly next: number;
  /** Packed: the wrap counter. Split: 1. */
  readonly wrap: number;
}

/** Size and guest physical addresses of a virtqueue, as the driver wrote them to the registers. */
export interface QueueSetup {
  readonly size: number;
  /** Descriptor area, driver area and device area. (§2.6) */
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
}

export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  /**
   * Split virtqueue only: continue at the used index, where a back-end that used buffers in order stopped.
   */
  readonly resumed?: boolean;
  /**
   * With `resumed`: heads of the chains that a back-end took and did not use, in any order. `next` gives them first;
   * the back-end took nothing else.
   */
  readonly taken?: readonly number[] | undefined;
  /** Where the queue of a restored device continues. */
  readonly position?: QueuePosition;
}

/** The driver set up an invalid virtqueue; the message says why. */
export class QueueError extends Error {}

/** A view of one area of a virtqueue. Throws QueueError if it is misaligned or not in RAM. */
export function ringPart(
  ram: GuestRam,
  what: string,
  address: number,
  bytes: number,
  alignment: number,
): Uint8Array {
  if (address % alignment !== 0) throw new QueueError(`${what} is not aligned to ${alignment}`);
  const view = ram.viewOf(address, bytes);
  if (view === undefined) throw new QueueError(`${what} is not in RAM`);
  return view;
}
