/**
 * A split virtqueue. (Virtual I/O Device 1.2 §2.7)
 *
 * The available and used indexes are accessed with Atomics, whose stores are full fences. Two pairs must not
 * be reordered: writing the used index and reading whether the driver wants an interrupt, and enabling
 * notifications and reading the available index again.
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import type { GuestRam } from './guest-ram.ts';
import {
  AVAIL,
  AVAIL_NO_INTERRUPT,
  DESCRIPTOR,
  DESCRIPTOR_FLAG,
  MAX_QUEUE_SIZE,
  USED,
  USED_NO_NOTIFY,
} from './queue.regs.ts';
import {
  MAX_CHAIN,
  NEXT,
  QueueError,
  ringPart,
  type Chain,
  type Next,
  type QueueFeatures,
  type QueuePosition,
  type QueueSetup,
  type Virtqueue,
} from './queue.ts';

const INDEX_16 = AVAIL.index / 2;
const AVAIL_RING_16 = AVAIL.ring / 2;
const USED_RING_32 = USED.ring / 4;
const DESCRIPTOR_32 = DESCRIPTOR.size / 4;

export class SplitQueue implements Virtqueue {
  readonly size: number;
  inFlight = 0;
  readonly #ram: GuestRam;
  readonly #indirect: boolean;
  readonly #eventIndex: boolean;
  readonly #mask: number;
  readonly #descriptors: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used16: Uint16Array;
  readonly #used32: Uint32Array;
  /** 1 for each descriptor chain in flight, by the index of its head. */
  readonly #taken: Uint8Array;
  readonly #usedAddress: number;
  #nextAvail = 0;
  #nextUsed = 0;
  #interruptedAt = 0;
  #lastHead = 0;
  /** Heads that `next` gives before those of the available ring. */
  #returned: number[] = [];

  /** Throws QueueError for an invalid size or address. */
  constructor(ram: GuestRam, setup: QueueSetup, features: QueueFeatures) {
    const { size } = setup;
    if (size === 0 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0)
      throw new QueueError(
        `a split virtqueue has ${size} entries (expected a power of two up to ${MAX_QUEUE_SIZE})`,
      );
    this.size = size;
    this.#ram = ram;
    this.#mask = size - 1;
    this.#indirect = features.indirect;
    this.#eventIndex = features.eventIndex;
    const descriptors = ringPart(ram, 'the descriptor table', setup.descriptors, size * DESCRIPTOR.size, 16);
    const avail = ringPart(ram, 'the available ring', setup.driver, AVAIL.ring + size * AVAIL.entry + 2, 2);
    const used = ringPart(
      ram,
      'the used ring',
      setup.device,
      USED.ring + size * USED.entry + 2,
      USED.alignment,
    );
    this.#descriptors = new Uint32Array(descriptors.buffer, descriptors.byteOffset, size * DESCRIPTOR_32);
    this.#avail = new Uint16Array(avail.buffer, avail.byteOffset, avail.byteLength / 2);
    this.#used16 = new Uint16Array(used.buffer, used.byteOffset, used.byteLength / 2);
    this.#used32 = new Uint32Array(used.buffer, used.byteOffset, USED_RING_32 + size * 2);
    this.#taken = new Uint8Array(size);
    this.#usedAddress = setup.device;
    if (features.resumed) {
      const { taken = [] } = features;
      this.#continueAt(Atomics.load(this.#used16, INDEX_16));
      this.#nextAvail = (this.#nextAvail + taken.length) & 0xffff;
      this.#returned = [...taken];
    }
    if (features.position) this.#continueAt(features.position.next & 0xffff);
  }

  next(chain: Chain): Next {
    if (this.#returned.length > 0) return this.#take(chain, this.#returned.shift()!);
    const at = this.#nextAvail;
    const waiting = (Atomics.load(this.#avail, INDEX_16) - at) & 0xffff;
    if (waiting === 0) return NEXT.none;
    if (waiting > this.size) return NEXT.broken;
    const next = this.#take(chain, this.#avail[AVAIL_RING_16 + (at & this.#mask)]!);
    if (next === NEXT.chain) this.#nextAvail = (at + 1) & 0xffff;
    return next;
  }

  #take(chain: Chain, head: number): Next {
    if (head >= this.size || this.#taken[head] !== 0) return NEXT.broken;
    chain.clear(head);
    if (!this.#collect(chain, head)) return NEXT.broken;
    this.#taken[head] = 1;
    this.#lastHead = head;
    this.inFlight++;
    return NEXT.chain;
  }

  undoNext(): void {
    this.#taken[this.#lastHead] = 0;
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
    this.inFlight--;
  }

  pushUsed(id: number, writtenBytes: number): void {
    this.stageUsed(id, writtenBytes);
    Atomics.store(this.#used16, INDEX_16, this.#nextUsed);
    this.#markUsedRing();
  }

  stageUsed(id: number, writtenBytes: number): void {
    const entry = USED_RING_32 + 2 * (this.#nextUsed & this.#mask);
    this.#used32[entry] = id;
    this.#used32[entry + 1] = writtenBytes;
    this.#taken[id] = 0;
    this.inFlight--;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
  }

  shouldInterrupt(): boolean {
    const before = this.#interruptedAt;
    const now = this.#nextUsed;
    if (before === now) return false;
    this.#interruptedAt = now;
    if (!this.#eventIndex) return (Atomics.load(this.#avail, 0) & AVAIL_NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#avail, AVAIL_RING_16 + this.size);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** The ring is small, so all of it is marked. */
  #markUsedRing(): void {
    if (this.#ram.isTracking) this.#ram.markWritten(this.#usedAddress, this.#used16.byteLength);
  }

  position(): QueuePosition {
    return { next: (this.#nextAvail - this.inFlight) & 0xffff, wrap: 1 };
  }

  #continueAt(index: number): void {
    this.#nextUsed = index;
    this.#nextAvail = index;
    this.#interruptedAt = index;
  }

  disableNotifications(): void {
    // With VIRTIO_F_EVENT_IDX an old avail_event suppresses notifications. (§2.7.10)
    if (this.#eventIndex) return;
    Atomics.store(this.#used16, 0, USED_NO_NOTIFY);
    this.#markUsedRing();
  }

  enableNotifications(): boolean {
    if (this.#eventIndex) Atomics.store(this.#used16, this.#used16.length - 1, this.#nextAvail);
    else Atomics.store(this.#used16, 0, 0);
    this.#markUsedRing();
    return Atomics.load(this.#avail, INDEX_16) !== this.#nextAvail;
  }

  /**
   * Follows a chain from its head. Returns false if it loops, leaves RAM or the table, or is otherwise
   * invalid.
   */
  #collect(chain: Chain, head: number): boolean {
    const table = this.#descriptors;
    let index = head;
    for (let steps = 0; steps < this.size; steps++) {
      const at = index * DESCRIPTOR_32;
      const address = table[at]! + table[at + 1]! * TWO_POW_32;
      const length = table[at + 2]!;
      const flagsAndNext = table[at + 3]!;
      if (flagsAndNext & DESCRIPTOR_FLAG.indirectBit) {
        if (!this.#indirect || flagsAndNext & DESCRIPTOR_FLAG.nextBit) return false;
        return collectIndirect(this.#ram, chain, address, length);
      }
      const writable = (flagsAndNext & DESCRIPTOR_FLAG.writeBit) !== 0;
      if (!chain.add(this.#ram, address, length, writable)) return false;
      if (!(flagsAndNext & DESCRIPTOR_FLAG.nextBit)) return true;
      index = flagsAndNext >>> 16;
      if (index >= this.size) return false;
    }
    return false;
  }
}

/** Follows the chain in an indirect table from its first descriptor. (§2.7.5.3) */
function collectIndirect(ram: GuestRam, chain: Chain, table: number, bytes: number): boolean {
  if (bytes === 0 || bytes % DESCRIPTOR.size !== 0 || !ram.contains(table, bytes)) return false;
  const count = bytes / DESCRIPTOR.size;
  let index = 0;
  for (let steps = 0; steps < Math.min(count, MAX_CHAIN); steps++) {
    const at = table + index * DESCRIPTOR.size;
    const address = ram.loadU32(at)! + ram.loadU32(at + 4)! * TWO_POW_32;
    const length = ram.loadU32(at + DESCRIPTOR.length)!;
    const flagsAndNext = ram.loadU32(at + DESCRIPTOR.flags)!;
    if (flagsAndNext & DESCRIPTOR_FLAG.indirectBit) return false;
    if (!chain.add(ram, address, length, (flagsAndNext & DESCRIPTOR_FLAG.writeBit) !== 0)) return false;
    if (!(flagsAndNext & DESCRIPTOR_FLAG.nextBit)) return true;
    index = flagsAndNext >>> 16;
    if (index >= count) return false;
  }
  return false;
}
