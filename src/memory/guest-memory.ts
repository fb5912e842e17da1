/**
 * Guest RAM: mapped host memory seen through ArrayBuffers, addressed by guest physical address.
 *
 * Each range of RAM is seen through windows; an access may cross them. They are small, because the garbage collector
 * counts an ArrayBuffer's bytes as memory to be collected: one of 32 MiB has it run at once, for a millisecond. Every
 * access is checked: an address outside RAM is a GuestMemoryError, never a fault of this process.
 */
import { hex } from '../binary/bytes.ts';
import type { OwnedFd } from '../ffi/file.ts';
import type { HostPointer } from '../ffi/libc.ts';
import { MAP, Mapping, PROT } from '../ffi/mapping.ts';
import { adviseHugePages } from '../ffi/memory-advice.ts';
import { createSharedMemory } from '../ffi/shared-memory.ts';
import { MIB, type GuestAddress } from '../machine/address.ts';
import type { RamRange } from '../machine/layout.ts';

const WINDOW_BYTES = 2 * MIB;
/** Host and guest addresses agree below it, so that both sides' page tables can have an entry for a whole huge page. */
const HUGE_PAGE_BYTES = 2 * MIB;
const HUGE_PAGES_FROM = 16 * MIB;

export class GuestMemoryError extends Error {
  constructor(action: string, address: number, bytes: number) {
    super(`Cannot ${action} ${bytes} bytes at guest address ${hex(address)} (expected all of them in RAM)`);
    this.name = 'GuestMemoryError';
  }
}

export interface GuestMemoryOptions {
  /** Back RAM with 2 MiB pages of hugetlbfs, which the host must have reserved. */
  readonly hugepages?: boolean;
  /** Other processes get to map it: it comes from descriptors, and no file's pages are in it. */
  readonly shared?: boolean;
}

/** A region for those who hand it on. */
export interface MemoryRegion {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly host: HostPointer;
  /** To map it from, from its start, where it is shared. */
  readonly fd: number | undefined;
}

/** A range of RAM with its mapping; windows are made when first used. */
interface Region {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly mapping: Mapping;
  readonly memory: OwnedFd | undefined;
  readonly windows: (Uint8Array | undefined)[];
}

export class GuestMemory implements Disposable {
  readonly #regions: Region[];
  readonly #hugepages: boolean;
  readonly #shared: boolean;

  /** Maps all of `ranges`; nothing is touched, so the host pays for a page when the guest first uses it. */
  constructor(ranges: readonly RamRange[], options: GuestMemoryOptions = {}) {
    this.#hugepages = options.hugepages ?? false;
    this.#shared = options.shared ?? false;
    this.#regions = [];
    try {
      for (const range of ranges)
        this.#regions.push(
          this.#shared ? mapShared(range, this.#hugepages) : mapPrivate(range, this.#hugepages),
        );
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Guest range and host address of each region, for KVM's memory slots. */
  get regions(): readonly MemoryRegion[] {
    return this.#regions.map(({ address, bytes, mapping, memory }) => ({
      address,
      bytes,
      host: mapping.address,
      fd: memory?.fd,
    }));
  }

  /** Copies `source` to `address`. */
  write(address: GuestAddress, source: Uint8Array): void {
    this.#forEachPiece('write', address, source.length, (piece, offset) => {
      piece.set(source.subarray(offset, offset + piece.length));
    });
  }

  /** A copy of `bytes` bytes at `address`. */
  read(address: GuestAddress, bytes: number): Uint8Array {
    const result = new Uint8Array(this.#checkedLength('read', address, bytes));
    this.#forEachPiece('read', address, bytes, (piece, offset) => result.set(piece, offset));
    return result;
  }

  /** Where `bytes` bytes at `address` lie in this process. They must be in one region. */
  hostAddress(address: GuestAddress, bytes: number): HostPointer {
    const region = this.#regionOf('access', address, bytes);
    return (region.mapping.address + (address - region.address)) as HostPointer;
  }

  [Symbol.dispose](): void {
    for (const { mapping, memory } of this.#regions.splice(0)) {
      mapping[Symbol.dispose]();
      memory?.close();
    }
  }

  #regionOf(action: string, address: GuestAddress, bytes: number): Region {
    const region = this.#regions.find((r) => address >= r.address && address + bytes <= r.address + r.bytes);
    if (!region || bytes < 0) throw new GuestMemoryError(action, address, bytes);
    return region;
  }

  #checkedLength(action: string, address: GuestAddress, bytes: number): number {
    this.#regionOf(action, address, bytes);
    return bytes;
  }

  #forEachPiece(
    action: string,
    address: GuestAddress,
    bytes: number,
    visit: (piece: Uint8Array, offset: number) => void,
  ): void {
    const region = this.#regionOf(action, address, bytes);
    for (let done = 0; done < bytes;) {
      const at = address - region.address + done;
      const inWindow = at % WINDOW_BYTES;
      const length = Math.min(bytes - done, WINDOW_BYTES - inWindow);
      visit(windowOf(region, Math.floor(at / WINDOW_BYTES)).subarray(inWindow, inWindow + length), done);
      done += length;
    }
  }
}

const READ_WRITE = PROT.read | PROT.write;
const RAM = 'guest RAM';

// Huge pages are reserved at once, by both: a page that is missing later would be a SIGBUS instead of an error now.
function mapPrivate({ address, bytes }: RamRange, hugepages: boolean): Region {
  const flags = MAP.private | MAP.anonymous | (hugepages ? MAP.hugeTlb : MAP.noReserve);
  const mapping = new Mapping({ bytes, prot: READ_WRITE, flags, what: RAM, ...aligned(hugepages) });
  if (!hugepages) adviseRange(address, mapping);
  return { address, bytes, mapping, memory: undefined, windows: [] };
}

function mapShared({ address, bytes }: RamRange, hugepages: boolean): Region {
  const memory = createSharedMemory(RAM, bytes, hugepages);
  try {
    const flags = MAP.shared | (hugepages ? MAP.hugeTlb : MAP.noReserve);
    const mapping = new Mapping({
      ...{ bytes, prot: READ_WRITE, flags, fd: memory.fd, what: RAM },
      ...aligned(hugepages),
    });
    if (!hugepages) adviseRange(address, mapping);
    return { address, bytes, mapping, memory, windows: [] };
  } catch (error) {
    memory.close();
    throw error;
  }
}

/**
 * Huge pages for all but the lowest RAM: there Volt itself writes a few pages far apart, and a guest that does no more
 * than that shall not take 2 MiB for each.
 */
function adviseRange(address: GuestAddress, { address: host, bytes }: Mapping): void {
  const from = Math.max(0, HUGE_PAGES_FROM - address);
  if (bytes > from) adviseHugePages((host + from) as HostPointer, bytes - from);
}

/** Reserved huge pages come aligned. */
function aligned(hugepages: boolean): { alignment?: number } {
  return hugepages ? {} : { alignment: HUGE_PAGE_BYTES };
}

function windowOf(region: Region, index: number): Uint8Array {
  const known = region.windows[index];
  if (known) return known;
  const start = index * WINDOW_BYTES;
  const made = new Uint8Array(region.mapping.view(start, Math.min(WINDOW_BYTES, region.bytes - start)));
  region.windows[index] = made;
  return made;
}
