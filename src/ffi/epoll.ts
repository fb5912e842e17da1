/**
 * eventfd(2) and epoll(7). Their flags EFD_* and EPOLL_CLOEXEC have the values of O_CLOEXEC and O_NONBLOCK.
 */
import { OPEN, OwnedFd } from './file.ts';
import { ERRNO, SyscallError } from './errno.ts';
import { ioLibc } from './io-libc.ts';
import { checked, lastErrno } from './libc.ts';

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** struct epoll_event { uint32_t events; uint64_t data; }, packed on x86-64. */
const EPOLL_EVENT = { events: 0, data: 4, size: 12 } as const;
const EVENTS_AT_ONCE = 64;

export const EPOLL = { in: 0x1, out: 0x4, error: 0x8, hangUp: 0x10, edge: 0x8000_0000 } as const;

/** eventfd(2), non-blocking, with counter 0. Throws SyscallError. */
export function createEventFd(): OwnedFd {
  return new OwnedFd(checked(ioLibc().eventfd(0, OPEN.closeOnExec | OPEN.nonBlocking), 'eventfd'));
}

const ONE = new BigUint64Array([1n]);

/** Adds 1 to an eventfd. Allocates nothing. */
export function signalEventFd(fd: number): void {
  // Fails only when the counter is full, and then its waiters have been woken already.
  ioLibc().write(fd, ONE, 8);
}

const taken = new BigUint64Array(1);

/** Sets an eventfd's counter to 0; returns whether it was above. Allocates nothing. */
export function takeEventFd(fd: number): boolean {
  // SAFETY: the kernel writes 8 bytes, owned by this module, during the call.
  return Number(ioLibc().read(fd, taken, 8)) === 8;
}

/** An epoll(7) instance that calls a handler per descriptor. Owned and used by one thread. */
export class Epoll implements Disposable {
  readonly #owned: OwnedFd;
  readonly #events = new Uint8Array(EVENTS_AT_ONCE * EPOLL_EVENT.size);
  readonly #view = new DataView(this.#events.buffer);
  readonly #argument = new Uint8Array(EPOLL_EVENT.size);
  readonly #argumentView = new DataView(this.#argument.buffer);
  readonly #handlers = new Map<number, (events: number) => void>();

  constructor() {
    this.#owned = new OwnedFd(checked(ioLibc().epoll_create1(OPEN.closeOnExec), 'epoll_create1'));
  }

  /**
   * Calls `handler` with the events that occurred. `events` are bits of EPOLL; with `edge` an eventfd need
   * not be read. Throws SyscallError.
   */
  add(fd: number, events: number, handler: (events: number) => void): void {
    this.#handlers.set(fd, handler);
    this.#control(EPOLL_CTL_ADD, fd, events);
  }

  /** Replaces the events of a descriptor that was added. Throws SyscallError. */
  change(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  /** To be called before the descriptor is closed. Throws SyscallError. */
  remove(fd: number): void {
    this.#handlers.delete(fd);
    this.#control(EPOLL_CTL_DEL, fd, 0);
  }

  /**
   * Waits up to `timeoutMs` (-1: without limit) and calls the handlers of ready descriptors. Throws
   * SyscallError.
   */
  wait(timeoutMs: number): void {
    // SAFETY: the kernel writes at most EVENTS_AT_ONCE events during the call.
    const count = ioLibc().epoll_wait(this.#owned.fd, this.#events, EVENTS_AT_ONCE, timeoutMs);
    if (count < 0) {
      const errno = lastErrno();
      if (errno !== ERRNO.EINTR) throw new SyscallError('epoll_wait', errno);
      return;
    }
    for (let i = 0; i < count; i++) {
      const at = i * EPOLL_EVENT.size;
      const handler = this.#handlers.get(this.#view.getInt32(at + EPOLL_EVENT.data, true));
      // An earlier handler may have removed this one.
      if (handler) handler(this.#view.getUint32(at + EPOLL_EVENT.events, true));
    }
  }

  [Symbol.dispose](): void {
    this.#owned.close();
  }

  #control(operation: number, fd: number, events: number): void {
    this.#argumentView.setUint32(EPOLL_EVENT.events, events, true);
    this.#argumentView.setInt32(EPOLL_EVENT.data, fd, true);
    checked(ioLibc().epoll_ctl(this.#owned.fd, operation, fd, this.#argument), 'epoll_ctl');
  }
}
