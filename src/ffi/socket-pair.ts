/** socketpair(2). */
import { OPEN, OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX } from './socket-abi.ts';
import { STREAM_CLOEXEC, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** Two connected Unix stream sockets, both with O_NONBLOCK if `nonBlocking`. Throws SyscallError. */
export function createSocketPair(nonBlocking: boolean): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  const type = nonBlocking ? STREAM_NONBLOCK_CLOEXEC : STREAM_CLOEXEC;
  checked(netLibc().socketpair(AF_UNIX, type, 0, fds), 'socketpair');
  return [new OwnedFd(fds[0]!), new OwnedFd(fds[1]!)];
}

const F_SETFL = 4;

/**
 * A Unix stream between Volt and a helper program. Only Volt's end is non-blocking: passt expects its socket
 * to block when it sends the rest of a frame; on EAGAIN it would continue with the next frame, and the frame
 * boundaries would be lost. Throws SyscallError.
 */
export function createHelperSocket(): [ours: OwnedFd, theirs: OwnedFd] {
  const [ours, theirs] = createSocketPair(false);
  checked(libc.fcntl(ours.fd, F_SETFL, OPEN.nonBlocking), 'fcntl(F_SETFL)');
  return [ours, theirs];
}
