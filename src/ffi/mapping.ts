/** mmap(2): memory owned by Volt, accessed through ArrayBuffers. */
import { ERRNO, SyscallError } from './errno.ts';
import { arrayBufferAt, asPointer, checked, lastErrno, libc, type HostPointer } from './libc.ts';

export const PROT = { none: 0, read: 1, write: 2, execute: 4 } as const;
export const MAP = {
  shared: 0x1,
  private: 0x2,
  fixed: 0x10,
  anonymous: 0x20,
  noReserve: 0x4000,
  hugeTlb: 0x40000,
} as const;

/** MAP_FAILED is (void *)-1, which Bun returns as a bigint because a number cannot represent it. */
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

export interface MapRequest {
  readonly bytes: number;
  readonly prot: number;
  readonly flags: number;
  readonly fd?: number;
  readonly fileOffset?: number;
  /** With MAP.fixed: the address. Existing mappings there are replaced. */
  readonly at?: HostPointer;
  /** Alignment of the address in bytes, a multiple of the page size. */
  readonly alignment?: number;
  /** Purpose of the mapping, for the error message. */
  readonly what: string;
}

/** mmap(2). Returns the address. Throws SyscallError, with advice for ENOMEM. */
export function mapMemory(request: MapRequest): HostPointer {
  return request.alignment === undefined ? mapAnywhere(request) : mapAligned(request, request.alignment);
}

/**
 * mmap(2) has no alignment argument, so this reserves `bytes + alignment` bytes, unmaps both ends, and maps
 * the request over the aligned middle.
 */
function mapAligned(request: MapRequest, alignment: number): HostPointer {
  const { bytes, what } = request;
  const flags = MAP.private | MAP.anonymous | MAP.noReserve;
  const room = mapAnywhere({ bytes: bytes + alignment, prot: PROT.none, flags, what });
  const before = (alignment - (room % alignment)) % alignment;
  const start = (room + before) as HostPointer;
  // SAFETY: all three parts belong to the reservation above, whose address nobody else has.
  if (before > 0) checked(libc.munmap(asPointer(room), before), 'munmap');
  const end = (start + bytes) as HostPointer;
  checked(libc.munmap(asPointer(end), alignment - before), 'munmap');
  try {
    return mapAnywhere({ ...request, at: start, flags: request.flags | MAP.fixed });
  } catch (error) {
    libc.munmap(asPointer(start), bytes);
    throw error;
  }
}

function mapAnywhere(request: MapRequest): HostPointer {
  const address = libc.mmap(
    asPointer(request.at ?? 0),
    request.bytes,
    request.prot,
    request.flags,
    request.fd ?? -1,
    request.fileOffset ?? 0,
  );
  if (address === MAP_FAILED) {
    const errno = lastErrno();
    throw new SyscallError(
      `mmap of ${request.bytes} bytes for ${request.what}`,
      errno,
      mapAdvice(errno, request.flags),
    );
  }
  return address as number as HostPointer;
}

function mapAdvice(errno: number, flags: number): string | undefined {
  if (errno !== ERRNO.ENOMEM) return undefined;
  return flags & MAP.hugeTlb
    ? 'reserve 2 MiB pages first (sysctl vm.nr_hugepages) or leave out --hugepages'
    : 'give the guest less --memory, or raise ulimit -v';
}

/** An owned mapping, unmapped once, on dispose. SAFETY: its views must not be used after that. */
export class Mapping implements Disposable {
  readonly address: HostPointer;
  readonly bytes: number;
  #mapped = true;

  constructor(request: MapRequest) {
    this.address = mapMemory(request);
    this.bytes = request.bytes;
  }

  /**
   * An ArrayBuffer over `bytes` bytes from `offset`, at most 4 GiB. Throws RangeError outside the mapping.
   */
  view(offset: number, bytes: number): ArrayBuffer {
    if (offset < 0 || bytes < 0 || offset + bytes > this.bytes) {
      throw new RangeError(
        `Cannot view ${bytes} bytes at ${offset} of a mapping (expected a range within ${this.bytes} bytes)`,
      );
    }
    // SAFETY: inside this mapping, which outlives its views by the rule above; other threads may access it
    // too.
    return arrayBufferAt((this.address + offset) as HostPointer, bytes);
  }

  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    checked(libc.munmap(asPointer(this.address), this.bytes), 'munmap');
  }
}
