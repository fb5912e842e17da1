/** Whether somebody listens at a Unix socket. Bun's own connect calls every failure ECONNREFUSED. */
import { statSync } from 'node:fs';
import { ERRNO } from './errno.ts';
import { checked, cString, lastErrno, libc } from './libc.ts';

export const AF_UNIX = 1;
/** SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC */
export const STREAM_NONBLOCK_CLOEXEC = 0x1 | 0x800 | 0x8_0000;
/** struct sockaddr_un, <sys/un.h>: the path ends with a NUL. */
const SOCKADDR_UN = { family: 0x00, path: 0x02, size: 110 } as const;

export const MAX_SOCKET_PATH_BYTES = SOCKADDR_UN.size - SOCKADDR_UN.path - 1;

/**
 * - `listening`: it accepts connections
 * - `busy`: it would, if it took those that wait already
 * - `dead`: a socket that nobody has open any more
 * - `missing`: there is nothing, or no way there
 * - `other`: not a socket, or one of another kind that somebody has open
 * - `forbidden`: this user may not connect
 */
export type ListenerState = 'listening' | 'busy' | 'dead' | 'missing' | 'other' | 'forbidden';

/** Connects to `path`, and at once hangs up. Throws SyscallError when this process can make no socket. */
export function probeListener(path: string): ListenerState {
  const address = socketAddress(path);
  if (!address) return 'missing';
  const fd = checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket');
  // SAFETY: `address` is ours and outlives the call, which only reads it; the descriptor is known to nobody else.
  const result = libc.connect(fd, address, address.length);
  const errno = result < 0 ? lastErrno() : 0;
  libc.close(fd);
  return stateOf(errno, path);
}

/** `struct sockaddr_un`; undefined for a path that does not fit. */
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

/** Linux refuses connections to any file that is no socket. */
function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}
