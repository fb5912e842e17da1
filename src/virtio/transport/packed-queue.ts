/**
 * A packed virtqueue: driver and device share one descriptor ring. (Virtual I/O Device 1.2 §2.8)
 *
 * The flags of a descriptor say whether it is available or used. They are read first and written last, with
 * Atomics.
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import type { GuestRam } from './guest-ram.ts';
import {
  DESCRIPTOR_FLAG,
  EVENT_FLAG,
  EVENT_SUPPRESS,
  MAX_QUEUE_SIZE,
  PACKED_DESCRIPTOR,
  PACKED_FLAG,
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

const WORDS = PACKED_DESCRIPTOR.size / 4;
const HALF_WORDS = PACKED_DESCRIPTOR.size / 2;
const ID_16 = PACKED_DESCRIPTOR.id / 2;
const FLAGS_16 = PACKED_DESCRIPTOR.flags / 2;
const LENGTH_32 = PACKED_DESCRIPTOR.length / 4;
const ID_AND_FLAGS_32 = PACKED_DESCRIPTOR.id / 4;
const USED_FLAGS = PACKED_FLAG.availBit | PACKED_FLAG.usedBit;
/** Buffer ids have 16 bits, independent of the queue size. */
const ID_COUNT = 0x1_0000;

export class PackedQueue implements Virtqueue {
  readonly size: number;
  inFlight = 0;
  readonly #ram: GuestRam;
  readonly #indirect: boolean;
  readonly #eventIndex: boolean;
  readonly #ring16: Uint16Array;
  readonly #ring32: Uint32Array;
  readonly #driverEvent: Uint32Array;
  readonly #deviceEvent: Uint32Array;
  readonly #setup: QueueSetup;
  /** Number of descriptors of each buffer in flight, by buffer id; 0 if it is not in flight. */
  readonly #slots = new Uint16Array(ID_COUNT);
  #slotsTaken = 0;
  #nextAvail = 0;
  #availWrap = 1;
  #nextUsed = 0;
  #usedWrap = 1;
  #pushedSlots = 0;
  /** Ring index of the first staged used descriptor (-1: none), and its flags, which are written last. */
  #stagedAt = -1;
  #stagedFlags = 0;
  #lastId = 0;

  /** Throws QueueError for an invalid size or address. */
  constructor(ram: GuestRam, setup: QueueSetup, features: QueueFeatures) {
    const { size } = setup;
    if (size === 0 || size > MAX_QUEUE_SIZE)
      throw new QueueError(`a packed virtqueue has ${size} entries (expected 1 to ${MAX_QUEUE_SIZE})`);
    this.size = size;
    this.#setup = setup;
    this.#ram = ram;
    this.#indirect = features.indirect;
    this.#eventIndex = features.eventIndex;
    const ring = ringPart(ram, 'the descriptor ring', setup.descriptors, size * PACKED_DESCRIPTOR.size, 16);
    const driver = ringPart(ram, "the driver's event structure", setup.driver, EVENT_SUPPRESS.size, 4);
    const device = ringPart(ram, "the device's event structure", setup.device, EVENT_SUPPRESS.size, 4);
    this.#ring16 = new Uint16Array(ring.buffer, ring.byteOffset, size * HALF_WORDS);
    this.#ring32 = new Uint32Array(ring.buffer, ring.byteOffset, size * WORDS);
    this.#driverEvent = new Uint32Array(driver.buffer, driver.byteOffset, 1);
    this.#deviceEvent = new Uint32Array(device.buffer, device.byteOffset, 1);
    if (features.position) this.#continueAt(features.position);
  }

  next(chain: Chain): Next {
    let at = this.#nextAvail;
    let flags = Atomics.load(this.#ring16, at * HALF_WORDS + FLAGS_16);
    if (!this.#isAvailable(flags)) return NEXT.none;
    chain.clear(0);
    let slots = 1;
    let id: number;
    for (;;) {
      const word = at * WORDS;
      const address = this.#ring32[word]! + this.#ring32[word + 1]! * TWO_POW_32;
      const length = this.#ring32[word + LENGTH_32]!;
      id = this.#ring16[at * HALF_WORDS + ID_16]!;
      if (flags & DESCRIPTOR_FLAG.indirectBit) {
        if (!this.#indirect || flags & DESCRIPTOR_FLAG.nextBit) return NEXT.broken;
        if (!collectPackedIndirect(this.#ram, chain, address, length)) return NEXT.broken;
        break;
      }
      const writable = (flags & DESCRIPTOR_FLAG.writeBit) !== 0;
      if (!chain.add(this.#ram, address, length, writable)) return NEXT.broken;
      if (!(flags & DESCRIPTOR_FLAG.nextBit)) break;
      slots++;
      if (slots + this.#slotsTaken > this.size) return NEXT.broken;
      at = at + 1 === this.size ? 0 : at + 1;
      flags = Atomics.load(this.#ring16, at * HALF_WORDS + FLAGS_16);
    }
    // The driver reused a buffer id or a descriptor that is still in flight.
    if (slots + this.#slotsTaken > this.size || this.#slots[id] !== 0) return NEXT.broken;
    chain.id = id;
    this.#slots[id] = slots;
    this.#slotsTaken += slots;
    this.#lastId = id;
    this.#nextAvail += slots;
    if (this.#nextAvail >= this.size) {
      this.#nextAvail -= this.size;
      this.#availWrap ^= 1;
    }
    this.inFlight++;
    return NEXT.chain;
  }

  undoNext(): void {
    const slots = this.#slots[this.#lastId]!;
    this.#slots[this.#lastId] = 0;
    this.#slotsTaken -= slots;
    this.#nextAvail -= slots;
    if (this.#nextAvail < 0) {
      this.#nextAvail += this.size;
      this.#availWrap ^= 1;
    }
    this.inFlight--;
  }

  pushUsed(id: number, writtenBytes: number): void {
    const at = this.#nextUsed;
    const flags = this.#putUsed(id, writtenBytes);
    Atomics.store(this.#ring16, at * HALF_WORDS + FLAGS_16, flags);
    if (this.#stagedAt < 0) {
      this.#markRing();
      return;
    }
    // The driver reads used descriptors in order, so the first staged one makes all of them visible.
    Atomics.store(this.#ring16, this.#stagedAt * HALF_WORDS + FLAGS_16, this.#stagedFlags);
    this.#stagedAt = -1;
    this.#markRing();
  }

  stageUsed(id: number, writtenBytes: number): void {
    const at = this.#nextUsed;
    const flags = this.#putUsed(id, writtenBytes);
    if (this.#stagedAt >= 0) {
      Atomics.store(this.#ring16, at * HALF_WORDS + FLAGS_16, flags);
    } else {
      this.#stagedAt = at;
      this.#stagedFlags = flags;
    }
  }

  /** Writes the next used descriptor except its flags, which it returns. */
  #putUsed(id: number, writtenBytes: number): number {
    const at = this.#nextUsed;
    const slots = this.#slots[id]!;
    this.#slots[id] = 0;
    this.#slotsTaken -= slots;
    this.inFlight--;
    this.#ring32[at * WORDS + LENGTH_32] = writtenBytes;
    this.#ring16[at * HALF_WORDS + ID_16] = id;
    const used = this.#usedWrap === 1 ? USED_FLAGS : 0;
    const written = writtenBytes > 0 ? DESCRIPTOR_FLAG.writeBit : 0;
    this.#pushedSlots += slots;
    this.#nextUsed += slots;
    if (this.#nextUsed >= this.size) {
      this.#nextUsed -= this.size;
      this.#usedWrap ^= 1;
    }
    return used | written;
  }

  shouldInterrupt(): boolean {
    const pushed = this.#pushedSlots;
    if (pushed === 0) return false;
    this.#pushedSlots = 0;
    const event = Atomics.load(this.#driverEvent, 0);
    const flags = (event >>> 16) & 3;
    if (flags === EVENT_FLAG.disable) return false;
    if (flags !== EVENT_FLAG.descriptor || !this.#eventIndex) return true;
    // The event offset relative to the current pass over the ring: negative if it is in the previous pass.
    const wrap = event & EVENT_SUPPRESS.wrapBit ? 1 : 0;
    const wanted = (event & ~EVENT_SUPPRESS.wrapBit & 0xffff) - (wrap === this.#usedWrap ? 0 : this.size);
    return ((this.#nextUsed - wanted - 1) & 0xffff) < (pushed & 0xffff);
  }

  position(): QueuePosition {
    const next = this.#nextAvail - this.#slotsTaken;
    return next < 0 ? { next: next + this.size, wrap: this.#availWrap ^ 1 } : { next, wrap: this.#availWrap };
  }

  #continueAt({ next, wrap }: QueuePosition): void {
    if (next >= this.size)
      throw new QueueError(
        `a packed virtqueue continues at entry ${next} (expected less than its ${this.size})`,
      );
    this.#nextAvail = next;
    this.#nextUsed = next;
    this.#availWrap = wrap & 1;
    this.#usedWrap = wrap & 1;
  }

  disableNotifications(): void {
    Atomics.store(this.#deviceEvent, 0, EVENT_FLAG.disable << 16);
    this.#markDeviceEvent();
  }

  enableNotifications(): boolean {
    const position = this.#nextAvail | (this.#availWrap << 15);
    const flags = this.#eventIndex ? EVENT_FLAG.descriptor : EVENT_FLAG.enable;
    Atomics.store(this.#deviceEvent, 0, position | (flags << 16));
    this.#markDeviceEvent();
    return this.#isAvailable(Atomics.load(this.#ring16, this.#nextAvail * HALF_WORDS + FLAGS_16));
  }

  /** The ring is small, so all of it is marked. */
  #markRing(): void {
    if (this.#ram.isTracking) this.#ram.markWritten(this.#setup.descriptors, this.#ring32.byteLength);
  }

  #markDeviceEvent(): void {
    if (this.#ram.isTracking) this.#ram.markWritten(this.#setup.device, EVENT_SUPPRESS.size);
  }

  #isAvailable(flags: number): boolean {
    const avail = flags & PACKED_FLAG.availBit ? 1 : 0;
    const used = flags & PACKED_FLAG.usedBit ? 1 : 0;
    return avail === this.#availWrap && used !== this.#availWrap;
  }
}

/** Adds all descriptors of an indirect table in order; VIRTQ_DESC_F_NEXT is reserved there. (§2.8.7) */
function collectPackedIndirect(ram: GuestRam, chain: Chain, table: number, bytes: number): boolean {
  if (bytes === 0 || bytes % PACKED_DESCRIPTOR.size !== 0 || !ram.contains(table, bytes)) return false;
  const count = bytes / PACKED_DESCRIPTOR.size;
  if (count > MAX_CHAIN) return false;
  for (let i = 0; i < count; i++) {
    const at = table + i * PACKED_DESCRIPTOR.size;
    const address = ram.loadU32(at)! + ram.loadU32(at + 4)! * TWO_POW_32;
    const length = ram.loadU32(at + PACKED_DESCRIPTOR.length)!;
    const flags = ram.loadU32(at + ID_AND_FLAGS_32 * 4)! >>> 16;
    if (flags & DESCRIPTOR_FLAG.indirectBit) return false;
    if (!chain.add(ram, address, length, (flags & DESCRIPTOR_FLAG.writeBit) !== 0)) return false;
  }
  return true;
}
