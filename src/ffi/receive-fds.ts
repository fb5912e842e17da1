/** Receiving file descriptors over a Unix socket. (recvmsg(2), unix(7), cmsg(3)) */
import { dlopen, FFIType } from 'bun:ffi';
import { getU64, putU64 } from '../binary/bytes.ts';
import { addressOf, lastErrno } from './libc.ts';
import { CMSGHDR, IOVEC, MSG, MSGHDR, SCM_RIGHTS, SOL_SOCKET } from './socket-abi.ts';

function bind() {
  return dlopen('libc.so.6', {
    // ssize_t recvmsg(int sockfd, struct msghdr *msg, int flags)
    recvmsg: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
  }).symbols;
}

let bound: ReturnType<typeof bind> | undefined;

export interface Received {
  /** Number of bytes, 0 at end-of-file, or -errno. */
  readonly bytes: number;
  /** Descriptors that the caller owns now. */
  readonly fds: readonly number[];
  /** More came than the caller takes; the kernel has closed the surplus. */
  readonly truncated: boolean;
}

/** Receives bytes into `target` and at most `most` descriptors, with O_CLOEXEC set, without blocking. */
export function receiveWithFds(fd: number, target: Uint8Array, most: number): Received {
  // SAFETY: `target` and these three arrays outlive the call, which writes no more than their lengths.
  const iovec = new Uint8Array(IOVEC.size);
  // Not rounded up: the kernel passes as many descriptors as fit.
  const control = new Uint8Array(CMSGHDR.data + 4 * most);
  const message = new Uint8Array(MSGHDR.size);
  const iovecView = new DataView(iovec.buffer);
  putU64(iovecView, IOVEC.base, addressOf(target));
  putU64(iovecView, IOVEC.length, target.length);
  const view = new DataView(message.buffer);
  putU64(view, MSGHDR.iovecs, addressOf(iovec));
  putU64(view, MSGHDR.iovecCount, 1);
  putU64(view, MSGHDR.control, addressOf(control));
  putU64(view, MSGHDR.controlBytes, control.length);
  bound ??= bind();
  const got = Number(bound.recvmsg(fd, message, MSG.closeOnExec | MSG.doNotWait));
  if (got < 0) return { bytes: -lastErrno(), fds: [], truncated: false };
  const truncated = (view.getInt32(MSGHDR.flags, true) & MSG.controlTruncated) !== 0;
  return { bytes: got, fds: fdsIn(control, getU64(view, MSGHDR.controlBytes)), truncated };
}

/** The descriptors of a control message of `bytes` bytes; a stream socket delivers at most one message. */
function fdsIn(control: Uint8Array, bytes: number): number[] {
  if (bytes < CMSGHDR.data) return [];
  const view = new DataView(control.buffer);
  if (view.getInt32(CMSGHDR.level, true) !== SOL_SOCKET) return [];
  if (view.getInt32(CMSGHDR.type, true) !== SCM_RIGHTS) return [];
  const count = Math.floor((Math.min(getU64(view, CMSGHDR.length), bytes) - CMSGHDR.data) / 4);
  return Array.from({ length: count }, (_, i) => view.getInt32(CMSGHDR.data + 4 * i, true));
}
