/**
 * io_uring(7) by system calls, because glibc has no functions for it. One thread submits and reaps.
 * (Linux include/uapi/linux/io_uring.h)
 */
import { TWO_POW_32 } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from './errno.ts';
import { OwnedFd } from './file.ts';
import { ioLibc } from './io-libc.ts';
import { addressOf, lastErrno } from './libc.ts';
import { MAP, Mapping, PROT } from './mapping.ts';

const SYS = { setup: 425, enter: 426, register: 427 } as const;

/** `struct io_uring_params`, which contains two tables of offsets. */
const URING_PARAMS = {
  sqEntries: 0x00,
  cqEntries: 0x04,
  flags: 0x08,
  features: 0x14,
  sqOff: { head: 0x28, tail: 0x2c, ringMask: 0x30, array: 0x40 },
  cqOff: { head: 0x50, tail: 0x54, ringMask: 0x58, cqes: 0x64 },
  size: 0x78,
} as const;
/** `struct io_uring_sqe` */
const URING_SQE = {
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
const URING_CQE = { userData: 0x00, result: 0x08, flags: 0x0c, size: 0x10 } as const;

export const URING_OP = { readVectors: 1, writeVectors: 2, fsync: 3 } as const;
export const URING_FSYNC_DATA_SYNC = 1;

const FEATURE = { singleMmap: 1 << 0, submitStable: 1 << 2 } as const;
const OFFSET_RINGS = 0;
const OFFSET_SQES = 0x1000_0000;
const ENTER_GET_EVENTS = 1;

/** `struct io_uring_restriction` */
const URING_RESTRICTION = { opcode: 0x00, op: 0x02, size: 0x10 } as const;
const RESTRICT_SQE_OP = 1;
const REGISTER = { restrictions: 11, enableRings: 12 } as const;
const SETUP_DISABLED = 1 << 6;

/** What another thread needs to map a ring, from `struct io_uring_params`. Plain data. */
export interface UringParams {
  readonly fd: number;
  readonly entries: number;
  readonly cqEntries: number;
  readonly sqOff: { readonly tail: number; readonly ringMask: number; readonly array: number };
  readonly cqOff: {
    readonly head: number;
    readonly tail: number;
    readonly ringMask: number;
    readonly cqes: number;
  };
}

/**
 * Creates a ring of at least `wantedEntries` that is restricted for good to reads, writes and fsync, because
 * seccomp does not see a ring's operations. The caller owns its descriptor. Throws SyscallError on a kernel
 * before 5.10 or with kernel.io_uring_disabled.
 */
export function createUring(wantedEntries: number): UringParams {
  const params = new Uint8Array(URING_PARAMS.size);
  const view = new DataView(params.buffer);
  view.setUint32(URING_PARAMS.flags, SETUP_DISABLED, true);
  const fd = call('io_uring_setup', SYS.setup, wantedEntries, addressOf(params));
  try {
    const read = (offset: number) => view.getUint32(offset, true);
    const needed = FEATURE.singleMmap | FEATURE.submitStable;
    if ((read(URING_PARAMS.features) & needed) !== needed)
      throw new SyscallError('io_uring_setup', ERRNO.ENOSYS, 'this kernel is older than 5.10');
    restrict(fd);
    const { sqOff, cqOff } = URING_PARAMS;
    return {
      fd,
      entries: read(URING_PARAMS.sqEntries),
      cqEntries: read(URING_PARAMS.cqEntries),
      sqOff: { tail: read(sqOff.tail), ringMask: read(sqOff.ringMask), array: read(sqOff.array) },
      cqOff: {
        head: read(cqOff.head),
        tail: read(cqOff.tail),
        ringMask: read(cqOff.ringMask),
        cqes: read(cqOff.cqes),
      },
    };
  } catch (error) {
    new OwnedFd(fd).close();
    throw error;
  }
}

function restrict(fd: number): void {
  const ops = Object.values(URING_OP);
  const restrictions = new Uint8Array(ops.length * URING_RESTRICTION.size);
  const view = new DataView(restrictions.buffer);
  ops.forEach((op, i) => {
    view.setUint16(i * URING_RESTRICTION.size + URING_RESTRICTION.opcode, RESTRICT_SQE_OP, true);
    view.setUint8(i * URING_RESTRICTION.size + URING_RESTRICTION.op, op);
  });
  call('io_uring_register', SYS.register, fd, REGISTER.restrictions, addressOf(restrictions), ops.length);
  call('io_uring_register', SYS.register, fd, REGISTER.enableRings);
}

function call(name: string, number: number, a: number, b: number, c = 0, d = 0): number {
  const result = Number(ioLibc().syscall(number, a, b, c, d, null, 0));
  if (result < 0) throw new SyscallError(name, lastErrno());
  return result;
}

/**
 * A mapped ring.
 * SAFETY: its rings are shared with the kernel; `tail` and `head` are accessed with Atomics.
 */
export class Uring implements Disposable {
  readonly entries: number;
  /** Readable while completions are available. Owned by the caller of `createUring`. */
  readonly fd: number;
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

  /** Maps a ring from `createUring`, in the thread that will use it. Throws SyscallError. */
  constructor(params: UringParams) {
    const { fd, entries, cqEntries, sqOff, cqOff } = params;
    this.fd = fd;
    this.entries = entries;
    const ringBytes = Math.max(sqOff.array + 4 * entries, cqOff.cqes + URING_CQE.size * cqEntries);
    const map = (bytes: number, fileOffset: number, what: string) =>
      new Mapping({ bytes, prot: PROT.read | PROT.write, flags: MAP.shared, fd, fileOffset, what });
    this.#rings = map(ringBytes, OFFSET_RINGS, 'io_uring rings');
    this.#sqes = map(URING_SQE.size * entries, OFFSET_SQES, 'io_uring submission entries');
    this.#ring32 = new Int32Array(this.#rings.view(0, ringBytes - (ringBytes % 4)));
    this.#sqe32 = new Uint32Array(this.#sqes.view(0, URING_SQE.size * entries));
    this.#sqTail = sqOff.tail / 4;
    this.#sqMask = this.#ring32[sqOff.ringMask / 4]!;
    this.#cqHead = cqOff.head / 4;
    this.#cqTail = cqOff.tail / 4;
    this.#cqMask = this.#ring32[cqOff.ringMask / 4]!;
    this.#cqes = cqOff.cqes / 4;
    // Entry n of the submission ring is always SQE n.
    for (let i = 0; i < entries; i++) this.#ring32[sqOff.array / 4 + i] = i;
  }

  /**
   * Queues a submission entry of `count` iovecs from iovec `first` of `vectors` on. The caller keeps at most
   * `entries` in flight, so the ring has room. `submit` copies the iovecs. Allocates nothing.
   * SAFETY: the caller has checked that the iovecs lie in mapped memory, which stays mapped until the entry
   * is reaped.
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
      const address = addressOf(vectors) + first * 16;
      sqe[at + 4] = address % TWO_POW_32;
      sqe[at + 5] = Math.floor(address / TWO_POW_32);
      sqe[at + 6] = count;
    }
    sqe[at + 7] = opFlags;
    sqe[at + 8] = userData;
    Atomics.store(this.#ring32, this.#sqTail, (tail + 1) | 0);
    this.#unsubmitted++;
  }

  /** Submits all queued entries and waits until `waitFor` completions are available. Throws SyscallError. */
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
      // The kernel lacks memory for requests (EAGAIN) or its completion queue is full (EBUSY): retried after
      // a reap.
      if (errno === ERRNO.EAGAIN || errno === ERRNO.EBUSY) return;
      throw new SyscallError('io_uring_enter', errno);
    }
  }

  /** Entries that are queued and not yet submitted. */
  get unsubmitted(): number {
    return this.#unsubmitted;
  }

  /**
   * Calls `take` for each completion, with the system call's result or -errno. Returns the number of
   * completions.
   */
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
  }
}
