/**
 * io_uring(7) by its system calls: libc has no functions for it. One thread submits and reaps.
 * (Linux include/uapi/linux/io_uring.h)
 */
import { ptr } from 'bun:ffi';
import { ERRNO, SyscallError } from './errno.ts';
import { OwnedFd } from './file.ts';
import { ioLibc } from './io-libc.ts';
import { lastErrno } from './libc.ts';
import { MAP, Mapping, PROT } from './mapping.ts';

const SYS = { setup: 425, enter: 426 } as const;

/** `struct io_uring_params`, with the two tables of offsets in it. */
export const URING_PARAMS = {
  sqEntries: 0x00,
  cqEntries: 0x04,
  features: 0x14,
  sqOff: { head: 0x28, tail: 0x2c, ringMask: 0x30, array: 0x40 },
  cqOff: { head: 0x50, tail: 0x54, ringMask: 0x58, cqes: 0x64 },
  size: 0x78,
} as const;
/** `struct io_uring_sqe` */
export const URING_SQE = {
  opcode: 0x00,
  fd: 0x04,
  offset: 0x08,
  address: 0x10,
  length: 0x18,
  opFlags: 0x1c,
  userData: 0x20,
  size: 0x40,
} as const;
/** `struct io_uring_cqe` */
export const URING_CQE = { userData: 0x00, result: 0x08, flags: 0x0c, size: 0x10 } as const;

export const URING_OP = { readVectors: 1, writeVectors: 2, fsync: 3 } as const;
export const URING_FSYNC_DATA_SYNC = 1;

const FEATURE = { singleMmap: 1 << 0, submitStable: 1 << 2 } as const;
const OFFSET_RINGS = 0;
const OFFSET_SQES = 0x1000_0000;
const ENTER_GET_EVENTS = 1;
const TWO_POW_32 = 2 ** 32;

export class Uring implements Disposable {
  readonly entries: number;
  readonly #owned: OwnedFd;
  readonly #rings: Mapping;
  readonly #sqes: Mapping;
  readonly #ring32: Int32Array;
  readonly #sqe32: Uint32Array;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  #unsubmitted = 0;

  /** Throws SyscallError: an old kernel, or one that forbids it (kernel.io_uring_disabled). */
  constructor(wantedEntries: number) {
    const params = new Uint8Array(URING_PARAMS.size);
    const fd = Number(ioLibc().syscall(SYS.setup, wantedEntries, ptr(params), 0, 0, null, 0));
    if (fd < 0) throw new SyscallError('io_uring_setup', lastErrno());
    this.#owned = new OwnedFd(fd);
    const view = new DataView(params.buffer);
    const read = (offset: number) => view.getUint32(offset, true);
    const needed = FEATURE.singleMmap | FEATURE.submitStable;
    if ((read(URING_PARAMS.features) & needed) !== needed) {
      this.#owned.close();
      throw new SyscallError('io_uring_setup', ERRNO.ENOSYS, 'this kernel is older than 5.5');
    }
    this.entries = read(URING_PARAMS.sqEntries);
    const { sqOff, cqOff } = URING_PARAMS;
    const cqEntries = read(URING_PARAMS.cqEntries);
    const ringBytes = Math.max(
      read(sqOff.array) + 4 * this.entries,
      read(cqOff.cqes) + URING_CQE.size * cqEntries,
    );
    const map = (bytes: number, fileOffset: number, what: string) =>
      new Mapping({ bytes, prot: PROT.read | PROT.write, flags: MAP.shared, fd, fileOffset, what });
    this.#rings = map(ringBytes, OFFSET_RINGS, 'io_uring rings');
    this.#sqes = map(URING_SQE.size * this.entries, OFFSET_SQES, 'io_uring entries');
    this.#ring32 = new Int32Array(this.#rings.view(0, ringBytes - (ringBytes % 4)));
    this.#sqe32 = new Uint32Array(this.#sqes.view(0, URING_SQE.size * this.entries));
    this.#sqTail = read(sqOff.tail) / 4;
    this.#sqMask = this.#ring32[read(sqOff.ringMask) / 4]!;
    this.#cqHead = read(cqOff.head) / 4;
    this.#cqTail = read(cqOff.tail) / 4;
    this.#cqMask = this.#ring32[read(cqOff.ringMask) / 4]!;
    this.#cqes = read(cqOff.cqes) / 4;
    // Entry n of the submission ring is always SQE n.
    for (let i = 0; i < this.entries; i++) this.#ring32[read(sqOff.array) / 4 + i] = i;
  }

  /** Readable while there is something to reap. */
  get fd(): number {
    return this.#owned.fd;
  }

  /**
   * Puts an entry into the submission ring. The caller keeps at most `entries` in flight, so there is room; what
   * `vectors` holds is copied by `submit`.
   * SAFETY: what the iovecs point to must stay mapped until the entry has been reaped.
   */
  push(
    op: number,
    fd: number,
    offset: number,
    vectors: Uint32Array | undefined,
    first: number,
    count: number,
    opFlags: number,
    userData: number,
  ): void {
    const tail = this.#ring32[this.#sqTail]!;
    const at = (tail & this.#sqMask) * (URING_SQE.size / 4);
    const sqe = this.#sqe32;
    sqe.fill(0, at, at + URING_SQE.size / 4);
    sqe[at] = op;
    sqe[at + 1] = fd;
    sqe[at + 2] = offset % TWO_POW_32;
    sqe[at + 3] = Math.floor(offset / TWO_POW_32);
    if (vectors !== undefined) {
      const address = ptr(vectors) + first * 16;
      sqe[at + 4] = address % TWO_POW_32;
      sqe[at + 5] = Math.floor(address / TWO_POW_32);
      sqe[at + 6] = count;
    }
    sqe[at + 7] = opFlags;
    sqe[at + 8] = userData;
    Atomics.store(this.#ring32, this.#sqTail, (tail + 1) | 0);
    this.#unsubmitted++;
  }

  /** Hands everything pushed to the kernel, and waits until `waitFor` entries can be reaped. Throws SyscallError. */
  submit(waitFor = 0): void {
    while (this.#unsubmitted > 0 || waitFor > 0) {
      const flags = waitFor > 0 ? ENTER_GET_EVENTS : 0;
      const taken = Number(ioLibc().syscall(SYS.enter, this.fd, this.#unsubmitted, waitFor, flags, null, 0));
      if (taken >= 0) {
        this.#unsubmitted -= taken;
        waitFor = 0;
        continue;
      }
      const errno = lastErrno();
      if (errno === ERRNO.EINTR) continue;
      // The kernel is out of memory for requests, or has completions for us: whoever reaps, comes again.
      if (errno === ERRNO.EAGAIN || errno === ERRNO.EBUSY) return;
      throw new SyscallError('io_uring_enter', errno);
    }
  }

  get unsubmitted(): number {
    return this.#unsubmitted;
  }

  /** Calls `take(userData, result)` for everything that has ended; result is -errno or what the call returned. */
  reap(take: (userData: number, result: number) => void): number {
    let reaped = 0;
    for (;;) {
      const head = this.#ring32[this.#cqHead]!;
      if (head === Atomics.load(this.#ring32, this.#cqTail)) return reaped;
      const at = this.#cqes + (head & this.#cqMask) * (URING_CQE.size / 4);
      const userData = this.#ring32[at]!;
      const result = this.#ring32[at + 2]!;
      Atomics.store(this.#ring32, this.#cqHead, (head + 1) | 0);
      reaped++;
      take(userData, result);
    }
  }

  [Symbol.dispose](): void {
    this.#sqes[Symbol.dispose]();
    this.#rings[Symbol.dispose]();
    this.#owned.close();
  }
}
