/** Unix sockets that carry file descriptors, and waiting for them. (sendmsg(2), unix(7), cmsg(3)) */
import { ptr } from 'bun:ffi';
import { putU64 } from '../binary/bytes.ts';
import { ERRNO } from './errno.ts';
import { lastErrno, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';

/** `struct msghdr`, `struct iovec` and `struct cmsghdr` of x86-64. */
const MSGHDR = {
  name: 0,
  pieces: 16,
  pieceCount: 24,
  control: 32,
  controlBytes: 40,
  flags: 48,
  size: 56,
} as const;
const IOVEC = { base: 0, length: 8, size: 16 } as const;
const CMSGHDR = { length: 0, level: 8, type: 12, data: 16 } as const;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const SHUT_RDWR = 2;
const POLL = { in: 0x1, out: 0x4 } as const;

/** Sends bytes, and `fds` with the first of them; returns how many bytes went, or -errno. `bytes` are not empty. */
export function sendWithFds(fd: number, bytes: Uint8Array, fds: readonly number[]): number {
  // SAFETY: all three are ours and outlive the call, which only reads them.
  const piece = new Uint8Array(IOVEC.size);
  const control = new Uint8Array(8 * Math.ceil((CMSGHDR.data + 4 * fds.length) / 8));
  const message = new Uint8Array(MSGHDR.size);
  const pieceView = new DataView(piece.buffer);
  putU64(pieceView, IOVEC.base, ptr(bytes));
  putU64(pieceView, IOVEC.length, bytes.length);
  const view = new DataView(message.buffer);
  putU64(view, MSGHDR.pieces, ptr(piece));
  putU64(view, MSGHDR.pieceCount, 1);
  if (fds.length > 0) {
    const controlView = new DataView(control.buffer);
    putU64(controlView, CMSGHDR.length, CMSGHDR.data + 4 * fds.length);
    controlView.setInt32(CMSGHDR.level, SOL_SOCKET, true);
    controlView.setInt32(CMSGHDR.type, SCM_RIGHTS, true);
    fds.forEach((each, i) => controlView.setInt32(CMSGHDR.data + 4 * i, each, true));
    putU64(view, MSGHDR.control, ptr(control));
    putU64(view, MSGHDR.controlBytes, control.length);
  }
  const sent = Number(netLibc().sendmsg(fd, message, MSG_NOSIGNAL));
  return sent >= 0 ? sent : -lastErrno();
}

/** struct pollfd */
const pollFd = new Int32Array(2);

/** Waits up to `ms` until the socket can be read, or written with `write`, or is at its end; false when it is over. */
export function waitForSocket(fd: number, write: boolean, ms: number): boolean {
  const end = performance.now() + ms;
  for (;;) {
    pollFd[0] = fd;
    pollFd[1] = write ? POLL.out : POLL.in;
    const ready = libc.poll(pollFd, 1, Math.max(0, Math.ceil(end - performance.now())));
    if (ready > 0) return true;
    if (ready === 0 || lastErrno() !== ERRNO.EINTR) return false;
  }
}

/** Both ends find the stream at its end, whoever else has a descriptor of it. */
export function severSocket(fd: number): void {
  netLibc().shutdown(fd, SHUT_RDWR);
}
