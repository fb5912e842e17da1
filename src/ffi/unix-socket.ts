/** The state of Unix sockets at paths. Bun's own connect reports every failure as ECONNREFUSED. (unix(7)) */
import { statSync } from 'node:fs';
import { ERRNO } from './errno.ts';
import { OwnedFd } from './file.ts';
import { addressOf, checked, cString, lastErrno, libc } from './libc.ts';
import { AF_UNIX, SO_PEERCRED, SOCK, SOCKADDR_UN, SOL_SOCKET, UCRED } from './socket-abi.ts';

export const STREAM_CLOEXEC = SOCK.stream | SOCK.closeOnExec;
export const STREAM_NONBLOCK_CLOEXEC = STREAM_CLOEXEC | SOCK.nonBlocking;
const DATAGRAM_NONBLOCK_CLOEXEC = SOCK.datagram | SOCK.nonBlocking | SOCK.closeOnExec;

/** (asm/unistd_64.h) */
const SYS_GETSOCKOPT = 55;

export const MAX_SOCKET_PATH_BYTES = SOCKADDR_UN.size - SOCKADDR_UN.path - 1;

/**
 * - `listening`: it accepts connections
 * - `busy`: it listens, but its backlog is full
 * - `dead`: a socket file that no process has open
 * - `missing`: there is no such file or directory
 * - `other`: not a socket, or an open socket of another type
 * - `forbidden`: this user may not connect
 */
export type ListenerState = 'listening' | 'busy' | 'dead' | 'missing' | 'other' | 'forbidden';

/** Connects to `path` and closes the connection. Throws SyscallError when no socket can be created. */
export function probeListener(path: string): ListenerState {
  const address = socketAddress(path);
  if (!address) return 'missing';
  const fd = checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket');
  // SAFETY: `address` outlives the call, which only reads it.
  const result = libc.connect(fd, address, address.length);
  const errno = result < 0 ? lastErrno() : 0;
  libc.close(fd);
  return stateOf(errno, path);
}

/**
 * Id of the process that listens at `path` (SO_PEERCRED); undefined when connecting fails. Throws
 * SyscallError.
 */
export function listenerPid(path: string): number | undefined {
  const address = socketAddress(path);
  if (!address) return undefined;
  const fd = checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket');
  try {
    // SAFETY: `address` outlives the call, which only reads it.
    return libc.connect(fd, address, address.length) < 0 ? undefined : peerCredentials(fd)?.pid;
  } finally {
    libc.close(fd);
  }
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
}

/** The process at the other end when it connected; undefined if `fd` is no connected Unix socket. */
export function peerCredentials(fd: number): PeerCredentials | undefined {
  const credentials = new Int32Array(UCRED.words);
  const length = new Uint32Array([credentials.byteLength]);
  // SAFETY: both arrays outlive the call; the kernel writes at most `length` bytes.
  const [value, size] = [credentials, length].map((words) => addressOf(new Uint8Array(words.buffer)));
  if (libc.syscall(SYS_GETSOCKOPT, fd, SOL_SOCKET, SO_PEERCRED, value!, size!, 0) < 0) return undefined;
  return { pid: credentials[UCRED.pid]!, uid: credentials[UCRED.uid]! >>> 0 };
}

/**
 * A non-blocking datagram socket, connected to a path or to a name in the abstract namespace, which starts
 * with `@` here. Returns undefined when connecting fails. Throws SyscallError when no socket can be created.
 */
export function connectDatagram(address: string): OwnedFd | undefined {
  const bytes = socketAddress(address);
  if (!bytes) return undefined;
  const isPath = address.startsWith('/');
  if (!isPath) bytes[SOCKADDR_UN.path] = 0;
  // An abstract name ends where the address ends, not at a NUL. (unix(7))
  const length = isPath ? bytes.length : SOCKADDR_UN.path + Buffer.byteLength(address);
  const socket = new OwnedFd(checked(libc.socket(AF_UNIX, DATAGRAM_NONBLOCK_CLOEXEC, 0), 'socket'));
  if (libc.connect(socket.fd, bytes, length) === 0) return socket;
  socket.close();
  return undefined;
}

/** An encoded `struct sockaddr_un`; undefined for a path longer than MAX_SOCKET_PATH_BYTES. */
export function socketAddress(path: string): Uint8Array | undefined {
  const bytes = cString(path);
  if (bytes.length > MAX_SOCKET_PATH_BYTES + 1) return undefined;
  const address = new Uint8Array(SOCKADDR_UN.size);
  address[SOCKADDR_UN.family] = AF_UNIX;
  address.set(bytes, SOCKADDR_UN.path);
  return address;
}

function stateOf(errno: number, path: string): ListenerState {
  switch (errno) {
    case 0:
      return 'listening';
    case ERRNO.EAGAIN:
      return 'busy';
    case ERRNO.ECONNREFUSED:
      return isSocket(path) ? 'dead' : 'other';
    case ERRNO.ENOENT:
    case ERRNO.ENOTDIR:
    case ERRNO.ELOOP:
      return 'missing';
    case ERRNO.EACCES:
    case ERRNO.EPERM:
      return 'forbidden';
    default:
      return 'other';
  }
}

/** Linux returns ECONNREFUSED for files that are not sockets, too. */
function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}
