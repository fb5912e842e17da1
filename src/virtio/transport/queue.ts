/**
 * What devices see of a queue, split or packed: chains of buffers out, used buffers back. Everything that a guest
 * wrote is checked here, each field read once, so that a chain a device gets lies in RAM whole.
 */
import type { GuestRam } from './guest-ram.ts';

/** What `next` found. `broken`: the ring makes no sense, and the device needs a reset. */
export const NEXT = { none: 0, chain: 1, broken: 2 } as const;
export type Next = (typeof NEXT)[keyof typeof NEXT];

/** Descriptors in one chain; more are refused. As many as one preadv takes (UIO_MAXIOV). */
export const MAX_CHAIN = 1024;

/** Total bytes of a chain stay below this. (§2.7.5.2, §2.8.5.2) */
const MAX_CHAIN_BYTES = 2 ** 32;

/**
 * One chain of buffers: first those that the device reads, then those that it writes. Made once and filled again
 * and again; its contents are valid until the next `next`.
 */
export class Chain {
  /** What `pushUsed` wants to hear. */
  id = 0;
  count = 0;
  /** Index of the first buffer that the device writes; `count` when there is none. */
  firstWritable = 0;
  readableBytes = 0;
  writableBytes = 0;
  /** Guest physical address, host address and length of each buffer. None is empty. */
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

  /** False when the buffer does not fit the chain, or is not RAM. */
  add(ram: GuestRam, address: number, length: number, writable: boolean): boolean {
    const { count } = this;
    // Buffers to read come first. (§2.7.4.2)
    if (!writable && this.firstWritable < count) return false;
    // No driver makes empty buffers; they carry nothing, so nobody needs to see them.
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
   * Copies bytes that the driver wrote, from `offset` in the readable part, to `target[at…]`. Returns how many
   * there were, up to `bytes`.
   */
  copyOut(ram: GuestRam, offset: number, target: Uint8Array, at = 0, bytes = target.length - at): number {
    return this.#forEach(ram, false, 0, this.firstWritable, offset, target, at, bytes);
  }

  /** Copies `source[at…]` to `offset` in the writable part. Returns how many bytes fitted, up to `bytes`. */
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

/** One queue. Devices work in rounds: `do { disableNotifications; while (next) …; } while (enableNotifications)`. */
export interface Virtqueue {
  readonly size: number;
  /** Takes the next chain the driver made available. */
  next(chain: Chain): Next;
  /** Hands a chain back: `id` as `next` gave it, and how many bytes were written from its first writable byte on. */
  pushUsed(id: number, writtenBytes: number): void;
  /** The same, but the driver sees it only with the next `pushUsed`: for chains that belong together. */
  stageUsed(id: number, writtenBytes: number): void;
  /** Puts back the chain that `next` gave last: the next `next` gives it again. */
  undoNext(): void;
  /** Whether the driver wants an interrupt for what was pushed since this was asked last. */
  shouldInterrupt(): boolean;
  /** Says that kicks are not needed for now. */
  disableNotifications(): void;
  /** Says that the next chain needs a kick; true when one came meanwhile, for which there may be none. */
  enableNotifications(): boolean;
  /** Chains taken and not yet pushed. */
  readonly inFlight: number;
}

/** Where a driver put a queue, as it wrote it into the registers. */
export interface QueueSetup {
  readonly size: number;
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
}

export interface QueueFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  /** Of a split ring: goes on where somebody else stopped who served it in order, rather than at its start. */
  readonly resumed?: boolean;
}

/** A broken queue tells why by one of these. */
export class QueueError extends Error {}

/** A view of one part of a ring; throws QueueError when it is misaligned or not RAM. */
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
