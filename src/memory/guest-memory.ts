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
import { DirtyPages } from '../machine/dirty-pages.ts';
import type { RamRange } from '../machine/layout.ts';
import { HotplugSlots, type SlotRange } from './hotplug-slots.ts';
import type { OpenMemorySource } from './memory-source.ts';

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
  /** Where the content of RAM comes from, which GuestMemory takes over; undefined: it is zero. */
  readonly source?: OpenMemorySource | undefined;
  /** The last range is memory of which KVM has a slot of so many bytes only where some of it is plugged. */
  readonly hotplugSlotBytes?: number | undefined;
}

/**
 * A range of guest RAM and the host memory behind it.
 * SAFETY: `host` is valid until GuestMemory is disposed.
 */
export interface MemoryRegion {
  readonly address: GuestAddress;
  readonly bytes: number;
  /** Where it starts in all of RAM, the regions being one after the other. */
  readonly offset: number;
  readonly host: HostPointer;
  /** Shared RAM: the memfd, of which the region is all. */
  readonly fd: number | undefined;
}

/** A range of RAM and its mapping; windows are created on first use. */
interface Region {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly offset: number;
  readonly mapping: Mapping;
  readonly memory: OwnedFd | undefined;
  readonly windows: (Uint8Array | undefined)[];
}

type MappedRange = Omit<Region, 'offset'>;

export class GuestMemory implements Disposable {
  readonly #regions: Region[];
  readonly hugepages: boolean;
  readonly source: OpenMemorySource | undefined;
  /** undefined: KVM has all regions. */
  readonly hotplug: HotplugSlots | undefined;
  #dirty: DirtyPages | undefined;

  /**
   * Maps all of `ranges`. Without huge pages the host allocates each page when it is first touched. With a
   * source, call its `load` once the memory's policy is set. Throws SyscallError, and what the source throws.
   */
  constructor(ranges: readonly RamRange[], options: GuestMemoryOptions = {}) {
    const { hugepages = false, shared = false, source, hotplugSlotBytes } = options;
    this.hugepages = hugepages;
    this.source = source;
    this.#regions = [];
    try {
      let offset = 0;
      for (const range of ranges) {
        const mapped = shared ? mapShared(range, hugepages) : mapPrivate(range, hugepages);
        this.#regions.push({ ...mapped, offset });
        offset += range.bytes;
      }
      source?.attach(this.regions, { hugepages, shared });
      if (hotplugSlotBytes !== undefined)
        this.hotplug = new HotplugSlots({ ...this.regions.at(-1)!, slotBytes: hotplugSlotBytes });
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** All regions, ascending, for KVM's memory slots. */
  get regions(): readonly MemoryRegion[] {
    return this.#regions.map(({ address, bytes, offset, mapping, memory }) => ({
      address,
      bytes,
      offset,
      host: mapping.address,
      fd: memory?.fd,
    }));
  }

  /** Calls `act` with the memory slots that KVM is to have now, and changes none meanwhile. */
  withSlots<T>(act: (slots: readonly SlotRange[]) => T): T {
    const { hotplug, regions } = this;
    const plain = (hotplug ? regions.slice(0, -1) : regions).map((region, slot) => ({ slot, ...region }));
    return hotplug ? hotplug.whileHeld(() => act([...plain, ...hotplug.present()])) : act(plain);
  }

  /** Bytes of all regions. */
  get bytes(): number {
    return this.#regions.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The pages that Volt's own threads write, while tracking is on. Made when it is first wanted. */
  get dirtyPages(): DirtyPages {
    return (this.#dirty ??= new DirtyPages(this.bytes));
  }

  /** Copies `source` to `address`. Throws GuestMemoryError unless the range is within one region. */
  write(address: GuestAddress, source: Uint8Array): void {
    this.#forEachPiece('write', address, source.length, (piece, offset) => {
      piece.set(source.subarray(offset, offset + piece.length));
    });
    if (!this.#dirty?.isTracking) return;
    const region = this.#regionOf('write', address, source.length);
    this.#dirty.mark(region.offset + (address - region.address), source.length);
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
    this.source?.[Symbol.dispose]();
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
function mapPrivate({ address, bytes }: RamRange, hugepages: boolean): MappedRange {
  const flags = MAP.private | MAP.anonymous | (hugepages ? MAP.hugeTlb : MAP.noReserve);
  const mapping = new Mapping({ bytes, prot: READ_WRITE, flags, what: RAM, ...aligned(hugepages) });
  if (!hugepages) adviseRange(address, mapping);
  return { address, bytes, mapping, memory: undefined, windows: [] };
}

function mapShared({ address, bytes }: RamRange, hugepages: boolean): MappedRange {
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
