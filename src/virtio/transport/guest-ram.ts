/**
 * Guest RAM as devices see it: any thread may look at the same host mapping through windows of its own.
 *
 * Nothing here throws for an address that a guest chose: what does not lie in RAM is told by the result, and the
 * device decides. Windows begin every GiB and are 2 GiB long, so that every access of up to 1 GiB lies in one of
 * them, and so that indexes stay below 2^31, where typed arrays are fast.
 */
import { GIB } from '../../machine/address.ts';

const STRIDE_BYTES = GIB;
const WINDOW_BYTES = 2 * GIB;

/** One contiguous piece of guest RAM. `open` gives a live view of `bytes` bytes at `offset` in it. */
export interface RamRegion {
  readonly address: number;
  readonly bytes: number;
  /** Where it lies in this process. */
  readonly host: number;
  open(offset: number, bytes: number): Uint8Array;
}

interface Window {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

interface OpenRegion extends RamRegion {
  readonly windows: (Window | undefined)[];
}

export class GuestRam {
  readonly #regions: readonly OpenRegion[];
  /** Offset in the window of what #locate found: a second result without an object. */
  #offset = 0;

  constructor(regions: readonly RamRegion[]) {
    this.#regions = regions.map((region) => ({
      address: region.address,
      bytes: region.bytes,
      host: region.host,
      open: (offset: number, bytes: number) => region.open(offset, bytes),
      windows: [],
    }));
  }

  /** Whether `bytes` bytes from `address` all lie in one region of RAM. */
  contains(address: number, bytes: number): boolean {
    return this.#regionOf(address, bytes) !== undefined;
  }

  /** Where `bytes` bytes from `address` lie in this process; 0 when they do not all lie in one region of RAM. */
  hostAddress(address: number, bytes: number): number {
    const region = this.#regionOf(address, bytes);
    return region === undefined ? 0 : region.host + (address - region.address);
  }

  /** A live view of up to 1 GiB, or undefined when that is not all RAM. Allocates; for rings, set up once. */
  viewOf(address: number, bytes: number): Uint8Array | undefined {
    const window = this.#locate(address, bytes);
    return window?.bytes.subarray(this.#offset, this.#offset + bytes);
  }

  /** Little-endian u32 at any address; undefined outside RAM. */
  loadU32(address: number): number | undefined {
    const window = this.#locate(address, 4);
    return window?.view.getUint32(this.#offset, true);
  }

  /** False when `address` is not in RAM; then nothing was written. */
  storeU8(address: number, value: number): boolean {
    const window = this.#locate(address, 1);
    if (window === undefined) return false;
    window.bytes[this.#offset] = value;
    return true;
  }

  /** Copies guest memory out to `target[at…]`. False outside RAM, with nothing copied. */
  copyOut(address: number, target: Uint8Array, at: number, bytes: number): boolean {
    const window = this.#locate(address, bytes);
    if (window === undefined) return false;
    if (bytes > SMALL_BYTES) {
      target.set(window.bytes.subarray(this.#offset, this.#offset + bytes), at);
      return true;
    }
    const source = this.#offset;
    for (let i = 0; i < bytes; i++) target[at + i] = window.bytes[source + i]!;
    return true;
  }

  /** Copies `source[at…]` into guest memory. False outside RAM, with nothing copied. */
  copyIn(address: number, source: Uint8Array, at: number, bytes: number): boolean {
    const window = this.#locate(address, bytes);
    if (window === undefined) return false;
    if (bytes > SMALL_BYTES) {
      window.bytes.set(source.subarray(at, at + bytes), this.#offset);
      return true;
    }
    const target = this.#offset;
    for (let i = 0; i < bytes; i++) window.bytes[target + i] = source[at + i]!;
    return true;
  }

  #regionOf(address: number, bytes: number): OpenRegion | undefined {
    for (let i = 0; i < this.#regions.length; i++) {
      const region = this.#regions[i]!;
      const offset = address - region.address;
      if (offset >= 0 && bytes >= 0 && offset <= region.bytes && bytes <= region.bytes - offset)
        return region;
    }
    return undefined;
  }

  #locate(address: number, bytes: number): Window | undefined {
    if (bytes > STRIDE_BYTES) return undefined;
    const region = this.#regionOf(address, bytes);
    if (region === undefined) return undefined;
    const offset = address - region.address;
    const index = Math.floor(offset / STRIDE_BYTES);
    this.#offset = offset - index * STRIDE_BYTES;
    return region.windows[index] ?? openWindow(region, index);
  }
}

/** Below this a loop is faster than making two views. */
const SMALL_BYTES = 64;

function openWindow(region: OpenRegion, index: number): Window {
  const start = index * STRIDE_BYTES;
  const bytes = region.open(start, Math.min(WINDOW_BYTES, region.bytes - start));
  const window = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  region.windows[index] = window;
  return window;
}
