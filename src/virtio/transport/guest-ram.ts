/**
 * Guest RAM as devices access it. Each thread creates its own typed-array windows onto the host mapping.
 *
 * Guest-controlled addresses never make a function throw: the result says whether the range is in RAM.
 * Windows start at each multiple of 1 GiB and are 2 GiB long. An access of up to 1 GiB therefore lies in one
 * window, and indexes stay below 2^31, where typed arrays are fast.
 */
import { GIB } from '../../machine/address.ts';
import type { DirtyPages } from '../../machine/dirty-pages.ts';

const STRIDE_BYTES = GIB;
const WINDOW_BYTES = 2 * GIB;

/** One contiguous range of guest RAM. `open` returns a live view of `bytes` bytes at `offset`. */
export interface RamRegion {
  readonly address: number;
  readonly bytes: number;
  /** Address of the mapping in this process. */
  readonly host: number;
  open(offset: number, bytes: number): Uint8Array;
}

interface Window {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Buffers for one system call, as IoVector has them. */
interface HostBuffers {
  readonly count: number;
  hostOf(index: number): number;
  lengthOf(index: number): number;
}

interface OpenRegion extends RamRegion {
  /** Where it starts, the regions being one after the other. */
  readonly start: number;
  readonly windows: (Window | undefined)[];
}

export class GuestRam {
  readonly #regions: readonly OpenRegion[];
  readonly #dirty: DirtyPages | undefined;
  /** Second result of `#locate`: the offset in the returned window. A field, to allocate no object. */
  #offset = 0;

  /** `dirty`: what is written is marked there while it tracks. Its RAM are the first of the regions. */
  constructor(regions: readonly RamRegion[], dirty?: DirtyPages) {
    this.#dirty = dirty;
    let end = 0;
    this.#regions = regions.map((region) => ({
      start: (end += region.bytes) - region.bytes,
      address: region.address,
      bytes: region.bytes,
      host: region.host,
      open: (offset: number, bytes: number) => region.open(offset, bytes),
      windows: [],
    }));
  }

  /** Whether pages that are written have to be marked. */
  get isTracking(): boolean {
    return this.#dirty?.isTracking ?? false;
  }

  /** Whether the range lies in one region of RAM. */
  contains(address: number, bytes: number): boolean {
    return this.#regionOf(address, bytes) !== undefined;
  }

  /**
   * Host address of the range, or 0 if it does not lie in one region of RAM. Call `markHostWritten` when the
   * kernel has written to it.
   */
  hostAddress(address: number, bytes: number): number {
    const region = this.#regionOf(address, bytes);
    return region === undefined ? 0 : region.host + (address - region.address);
  }

  /**
   * A live view of up to 1 GiB, or undefined outside RAM. Allocates: only for rings, once per activation. Call
   * `markWritten` after writes to it.
   */
  viewOf(address: number, bytes: number): Uint8Array | undefined {
    const window = this.#locate(address, bytes);
    return window?.bytes.subarray(this.#offset, this.#offset + bytes);
  }

  /** Little-endian u32 at `address`, which need not be aligned; undefined outside RAM. */
  loadU32(address: number): number | undefined {
    const window = this.#locate(address, 4);
    return window?.view.getUint32(this.#offset, true);
  }

  /** Returns false, and writes nothing, if `address` is not in RAM. */
  storeU8(address: number, value: number): boolean {
    const window = this.#locate(address, 1);
    if (window === undefined) return false;
    window.bytes[this.#offset] = value;
    if (this.isTracking) this.markWritten(address, 1);
    return true;
  }

  /** Copies guest memory to `target[at…]`. Returns false, and copies nothing, outside RAM. */
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

  /** Copies `source[at…]` to guest memory. Returns false, and copies nothing, outside RAM. */
  copyIn(address: number, source: Uint8Array, at: number, bytes: number): boolean {
    const window = this.#locate(address, bytes);
    if (window === undefined) return false;
    if (bytes > SMALL_BYTES) {
      window.bytes.set(source.subarray(at, at + bytes), this.#offset);
    } else {
      const target = this.#offset;
      for (let i = 0; i < bytes; i++) window.bytes[target + i] = source[at + i]!;
    }
    if (this.isTracking) this.markWritten(address, bytes);
    return true;
  }

  /** After writes to [address, address + bytes), which lies in RAM: a snapshot must copy the pages again. */
  markWritten(address: number, bytes: number): void {
    if (!this.isTracking) return;
    const region = this.#regionOf(address, bytes);
    if (region !== undefined) this.#dirty?.mark(region.start + (address - region.address), bytes);
  }

  /** The same for [host, host + bytes), such as buffers that a system call has filled. */
  markHostWritten(host: number, bytes: number): void {
    if (!this.isTracking) return;
    for (const region of this.#regions) {
      const offset = host - region.host;
      if (offset >= 0 && offset < region.bytes) this.#dirty?.mark(region.start + offset, bytes);
    }
  }

  /** The same for the first `bytes` bytes of `vector`. */
  markVectorWritten(vector: HostBuffers, bytes: number): void {
    if (!this.isTracking) return;
    for (let i = 0; i < vector.count && bytes > 0; i++) {
      const length = Math.min(bytes, vector.lengthOf(i));
      this.markHostWritten(vector.hostOf(i), length);
      bytes -= length;
    }
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

/** Up to this size a loop is faster than creating a subarray. */
const SMALL_BYTES = 64;

function openWindow(region: OpenRegion, index: number): Window {
  const start = index * STRIDE_BYTES;
  const bytes = region.open(start, Math.min(WINDOW_BYTES, region.bytes - start));
  const window = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  region.windows[index] = window;
  return window;
}
