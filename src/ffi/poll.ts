/** poll(2) of one file descriptor. */
import { libc } from './libc.ts';

/** (asm-generic/poll.h) */
export const POLL = { in: 0x1, out: 0x4 } as const;

/** struct pollfd { int fd; short events; short revents; }, one for each thread that loads this module. */
const request = new Int32Array(2);

/**
 * Waits up to `timeoutMs` (0: not at all, -1: without limit) for one of `events` (bits of POLL), an error or
 * a hang-up. Returns 1 when one of them is there, 0 after the timeout, negative on failure (see `lastErrno`).
 * Allocates nothing.
 */
export function pollFd(fd: number, events: number, timeoutMs: number): number {
  request[0] = fd;
  request[1] = events;
  // SAFETY: one struct pollfd, owned by this module; the kernel writes its `revents` during the call.
  return libc.poll(request, 1, timeoutMs);
}

/** Whether the other end of a stream socket is closed, or the socket has failed. */
export function hasHungUp(fd: number): boolean {
  // POLLHUP and POLLERR are reported without being asked for. (poll(2))
  return pollFd(fd, 0, 0) > 0;
}
