/** Passing file descriptors over Unix sockets. (sendmsg(2), unix(7), cmsg(3)) */
import { putU64 } from '../binary/bytes.ts';
import { ERRNO } from './errno.ts';
import { addressOf, lastErrno } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { POLL, pollFd } from './poll.ts';
import { CMSGHDR, IOVEC, MSG, MSGHDR, SCM_RIGHTS, SHUT, SOL_SOCKET } from './socket-abi.ts';

/**
 * Sends `bytes`, which must not be empty, and `fds` with the first of them. Returns the number of bytes sent,
 * or -errno.
 */
export function sendWithFds(fd: number, bytes: Uint8Array, fds: readonly number[]): number {
  // SAFETY: `bytes` and these three arrays outlive the call, which only reads them.
  const iovec = new Uint8Array(IOVEC.size);
  const control = new Uint8Array(8 * Math.ceil((CMSGHDR.data + 4 * fds.length) / 8));
  const message = new Uint8Array(MSGHDR.size);
  const iovecView = new DataView(iovec.buffer);
  putU64(iovecView, IOVEC.base, addressOf(bytes));
  putU64(iovecView, IOVEC.length, bytes.length);
  const view = new DataView(message.buffer);
  putU64(view, MSGHDR.iovecs, addressOf(iovec));
  putU64(view, MSGHDR.iovecCount, 1);
  if (fds.length > 0) {
    const controlView = new DataView(control.buffer);
    putU64(controlView, CMSGHDR.length, CMSGHDR.data + 4 * fds.length);
    controlView.setInt32(CMSGHDR.level, SOL_SOCKET, true);
    controlView.setInt32(CMSGHDR.type, SCM_RIGHTS, true);
    fds.forEach((each, i) => controlView.setInt32(CMSGHDR.data + 4 * i, each, true));
    putU64(view, MSGHDR.control, addressOf(control));
    putU64(view, MSGHDR.controlBytes, control.length);
  }
  const sent = Number(netLibc().sendmsg(fd, message, MSG.noSignal));
  return sent >= 0 ? sent : -lastErrno();
}

/**
 * Waits up to `ms` until the socket is readable, with `write` writable, or closed. Returns false after the
 * timeout.
 */
export function waitForSocket(fd: number, write: boolean, ms: number): boolean {
  const end = performance.now() + ms;
  for (;;) {
    const left = Math.max(0, Math.ceil(end - performance.now()));
    const ready = pollFd(fd, write ? POLL.out : POLL.in, left);
    if (ready > 0) return true;
    if (ready === 0 || lastErrno() !== ERRNO.EINTR) return false;
  }
}

/**
 * shutdown(2) in both directions: both ends read end-of-file, even if other descriptors of the socket are
 * open.
 */
export function shutdownSocket(fd: number): void {
  netLibc().shutdown(fd, SHUT.readWrite);
}
