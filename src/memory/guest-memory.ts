/**
 * Guest RAM: mapped host memory, accessed through ArrayBuffers by guest physical address.
 *
 * Each range of RAM is accessed through windows; an access may cross them. Windows are small, because the
 * garbage collector counts an ArrayBuffer's bytes as its own memory: one of 32 MiB triggers a collection of
 * one millisecond. Every access is bounds-checked: outside RAM it throws GuestMemoryError and never faults.
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
/**
 * Host and guest addresses are equal modulo this size, so that nested page tables can map whole huge pages.
 */
const HUGE_PAGE_BYTES = 2 * MIB;
/** See `adviseRange`. */
const HUGE_PAGES_FROM = 16 * MIB;

export class GuestMemoryError extends Error {
  constructor(action: string, address: number, bytes: number) {
    super(`Cannot ${action} ${bytes} bytes at guest address ${hex(address)} (expected a range within RAM)`);
    this.name = 'GuestMemoryError';
  }
}

export interface GuestMemoryOptions {
  /** Back RAM with 2 MiB hugetlb pages, which the host must have reserved. */
  readonly hugepages?: boolean;
  /** Back RAM with memfds, which other processes can map. */
  readonly shared?: boolean;
}

/**
 * A range of guest RAM and the host memory behind it.
 * SAFETY: `host` is valid until GuestMemory is disposed.
 */
export interface MemoryRegion {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly host: HostPointer;
  /** Shared RAM: the memfd, of which the region is all. */
  readonly fd: number | undefined;
}

/** A range of RAM and its mapping; windows are created on first use. */
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

  /**
   * Maps all of `ranges`. Without huge pages the host allocates each page when it is first touched. Throws
   * SyscallError.
   */
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

  /** All regions, ascending, for KVM's memory slots. */
  get regions(): readonly MemoryRegion[] {
    return this.#regions.map(({ address, bytes, mapping, memory }) => ({
      address,
      bytes,
      host: mapping.address,
      fd: memory?.fd,
    }));
  }

  /** Copies `source` to `address`. Throws GuestMemoryError unless the range is within one region. */
  write(address: GuestAddress, source: Uint8Array): void {
    this.#forEachPiece('write', address, source.length, (piece, offset) => {
      piece.set(source.subarray(offset, offset + piece.length));
    });
  }

  /** A copy of `bytes` bytes at `address`. Throws GuestMemoryError unless they are within one region. */
  read(address: GuestAddress, bytes: number): Uint8Array {
    const result = new Uint8Array(this.#checkedLength('read', address, bytes));
    this.#forEachPiece('read', address, bytes, (piece, offset) => result.set(piece, offset));
    return result;
  }

  /**
   * The host address of `bytes` bytes at `address`. Throws GuestMemoryError unless they are within one
   * region.
   * SAFETY: valid for `bytes` bytes until this object is disposed; vCPUs access them at the same time.
   */
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

// Both reserve hugetlb pages in mmap(2): with MAP_NORESERVE, a missing page would raise SIGBUS on first
// access.
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
 * Transparent huge pages for RAM from 16 MiB on. Below, Volt writes a few scattered pages, which should not
 * cost a tiny guest 2 MiB each.
 */
function adviseRange(address: GuestAddress, { address: host, bytes }: Mapping): void {
  const from = Math.max(0, HUGE_PAGES_FROM - address);
  if (bytes > from) adviseHugePages((host + from) as HostPointer, bytes - from);
}

/** Mappings of hugetlb pages are aligned already. */
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
