/** Unix stream sockets that never block, with memory of anybody's as source and target. */
import { putU64 } from '../binary/bytes.ts';
import { OwnedFd } from './file.ts';
import { addressOf, checked, lastErrno, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, IOVEC, MSG, MSGHDR, SHUT, SOCK } from './socket-abi.ts';
import { socketAddress, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

const BACKLOG = 128;
/** Flags of accept4(2), which have the values of SOCK. */
const ACCEPT_FLAGS = SOCK.nonBlocking | SOCK.closeOnExec;

/** Listens at `path`, which must be free and fit. Throws SyscallError. */
export function listenAt(path: string): OwnedFd {
  const address = socketAddress(path);
  if (!address) throw new RangeError(`Cannot listen at ${path}: the path is too long`);
  const socket = new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket'));
  try {
    checked(netLibc().bind(socket.fd, address, address.length), `bind ${path}`);
    checked(netLibc().listen(socket.fd, BACKLOG), `listen ${path}`);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** The next connection, or -errno. */
export function acceptStream(listener: number): number {
  const fd = netLibc().accept4(listener, null, null, ACCEPT_FLAGS);
  return fd >= 0 ? fd : -lastErrno();
}

/** A connection to whoever listens at `path`, or -1. */
export function connectStream(path: string): number {
  const address = socketAddress(path);
  if (!address) return -1;
  const fd = libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (libc.connect(fd, address, address.length) === 0) return fd;
  libc.close(fd);
  return -1;
}

const message = new Uint8Array(MSGHDR.size);
const messageView = new DataView(message.buffer);

/**
 * Sends `count` pieces from `first` on, four words each; returns bytes, or -errno.
 * SAFETY: the caller has checked that every piece lies in mapped memory that stays mapped.
 */
export function sendVector(fd: number, words: Uint32Array, first: number, count: number): number {
  putU64(messageView, MSGHDR.iovecs, addressOf(words) + IOVEC.size * first);
  messageView.setUint32(MSGHDR.iovecCount, count, true);
  const sent = Number(netLibc().sendmsg(fd, message, MSG.noSignal));
  return sent >= 0 ? sent : -lastErrno();
}

/** Sends bytes of ours; returns how many went, or -errno. */
export function sendBytes(fd: number, bytes: Uint8Array): number {
  const sent = Number(netLibc().send(fd, bytes, bytes.length, MSG.noSignal));
  return sent >= 0 ? sent : -lastErrno();
}

/** Reads into `target`, or with `peek` looks what reading would give; returns bytes, 0 at the end, or -errno. */
export function receiveBytes(fd: number, target: Uint8Array, bytes: number, peek = false): number {
  const got = Number(netLibc().recv(fd, target, bytes, peek ? MSG.peek : 0));
  return got >= 0 ? got : -lastErrno();
}

/** The other end reads no more than what was sent already. */
export function shutdownWrites(fd: number): void {
  netLibc().shutdown(fd, SHUT.write);
}

export function closeStream(fd: number): void {
  libc.close(fd);
}
