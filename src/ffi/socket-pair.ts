/** socketpair(2). */
import { OPEN, OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX } from './socket-abi.ts';
import { STREAM_CLOEXEC, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** Two ends of a Unix stream. With `nonBlocking`, neither end ever blocks. */
export function createSocketPair(nonBlocking: boolean): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  const type = nonBlocking ? STREAM_NONBLOCK_CLOEXEC : STREAM_CLOEXEC;
  checked(netLibc().socketpair(AF_UNIX, type, 0, fds), 'socketpair');
  return [new OwnedFd(fds[0]!), new OwnedFd(fds[1]!)];
}

const F_SETFL = 4;

/**
 * A Unix stream between Volt and a helper program. Only our end never blocks: programs expect of a socket that they are
 * given that it waits. (passt sends what is left of a frame like that; when it gets EAGAIN it goes on with the next
 * frame, and nobody knows any more where frames begin)
 */
export function createHelperSocket(): [ours: OwnedFd, theirs: OwnedFd] {
  const [ours, theirs] = createSocketPair(false);
  checked(libc.fcntl(ours.fd, F_SETFL, OPEN.nonBlocking), 'fcntl(F_SETFL)');
  return [ours, theirs];
}
