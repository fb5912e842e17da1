/** Non-blocking Unix stream sockets, to and from arrays and host memory. (unix(7)) */
import { OwnedFd } from './file.ts';
import { checked, lastErrno, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, MSG, SHUT, SOCK } from './socket-abi.ts';
import { MAX_SOCKET_PATH_BYTES, socketAddress, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

const BACKLOG = 128;
/** Flags of accept4(2), which have the values of SOCK. */
const ACCEPT_FLAGS = SOCK.nonBlocking | SOCK.closeOnExec;

/**
 * Listens at `path`, which must not exist; `backlog` is how many connections may wait, less one. Throws SyscallError, or RangeError for a path that is too long.
 */
export function listenAt(path: string, backlog: number = BACKLOG): OwnedFd {
  const address = socketAddress(path);
  if (!address)
    throw new RangeError(
      `Cannot listen at ${path}: its path is too long for a socket (expected at most ${MAX_SOCKET_PATH_BYTES} bytes)`,
    );
  const socket = new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket'));
  try {
    checked(netLibc().bind(socket.fd, address, address.length), `bind ${path}`);
    checked(netLibc().listen(socket.fd, backlog), `listen ${path}`);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Accepts the next connection, as a non-blocking descriptor that the caller owns, or returns -errno. */
export function acceptStream(listener: number): number {
  const fd = netLibc().accept4(listener, null, null, ACCEPT_FLAGS);
  return fd >= 0 ? fd : -lastErrno();
}

/** Connects to the socket at `path`: a descriptor that the caller owns, or -1. */
export function connectStream(path: string): number {
  const address = socketAddress(path);
  if (!address) return -1;
  const fd = libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (libc.connect(fd, address, address.length) === 0) return fd;
  libc.close(fd);
  return -1;
}

/** send(2). Returns the number of bytes sent, or -errno. */
export function sendBytes(fd: number, bytes: Uint8Array): number {
  const sent = Number(netLibc().send(fd, bytes, bytes.length, MSG.noSignal));
  return sent >= 0 ? sent : -lastErrno();
}

/** recv(2), with `peek` MSG_PEEK. Returns the number of bytes received, 0 at end-of-file, or -errno. */
export function receiveBytes(fd: number, target: Uint8Array, bytes: number, peek = false): number {
  const got = Number(netLibc().recv(fd, target, bytes, peek ? MSG.peek : 0));
  return got >= 0 ? got : -lastErrno();
}

/** shutdown(2) for writing: the other end reads end-of-file after the data sent so far. */
export function shutdownWrites(fd: number): void {
  netLibc().shutdown(fd, SHUT.write);
}

export function closeStream(fd: number): void {
  libc.close(fd);
}
