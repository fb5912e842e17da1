/**
 * A region of guest RAM of which KVM has only some slots, and which of them: state that all threads share. The worker of
 * the memory device changes slots while a machine runs, the main thread before; whoever goes through them holds the lock.
 */
import type { HostPointer } from '../ffi/libc.ts';
import type { GuestAddress } from '../machine/address.ts';

/** KVM's numbers of these slots start here: behind those of all other regions. */
const FIRST_SLOT = 256;
const LOCK = 0;
const WORDS = 1;

/** What `setMemorySlot` of a KvmVm takes. */
export interface SlotRange {
  readonly slot: number;
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly host: HostPointer;
  /** Where it starts in all of RAM. */
  readonly offset: number;
}

export interface HotplugRegion {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly offset: number;
  readonly host: HostPointer;
  readonly slotBytes: number;
}

export class HotplugSlots {
  readonly region: HotplugRegion;
  /** For other threads. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #present: Uint8Array;

  /** `buffer`: that of the same region's HotplugSlots in another thread. */
  constructor(region: HotplugRegion, buffer?: SharedArrayBuffer) {
    const count = region.bytes / region.slotBytes;
    this.region = region;
    this.buffer = buffer ?? new SharedArrayBuffer(4 * WORDS + count);
    this.#words = new Int32Array(this.buffer, 0, WORDS);
    this.#present = new Uint8Array(this.buffer, 4 * WORDS, count);
  }

  /** Calls `act` while no other thread changes slots. */
  whileHeld<T>(act: () => T): T {
    while (Atomics.compareExchange(this.#words, LOCK, 0, 1) !== 0) Atomics.wait(this.#words, LOCK, 1, 1);
    try {
      return act();
    } finally {
      Atomics.store(this.#words, LOCK, 0);
      Atomics.notify(this.#words, LOCK);
    }
  }

  isPresent(index: number): boolean {
    return this.#present[index] === 1;
  }

  /** Call it while held, when KVM has been told. */
  note(index: number, present: boolean): void {
    this.#present[index] = present ? 1 : 0;
  }

  range(index: number): SlotRange {
    const { address, host, slotBytes, offset } = this.region;
    const at = index * slotBytes;
    return {
      slot: FIRST_SLOT + index,
      address: (address + at) as GuestAddress,
      bytes: slotBytes,
      host: (host + at) as HostPointer,
      offset: offset + at,
    };
  }

  /** Slots that KVM has. Call it while held. */
  present(): SlotRange[] {
    return Array.from(this.#present, (_, index) => index)
      .filter((index) => this.isPresent(index))
      .map((index) => this.range(index));
  }
}
