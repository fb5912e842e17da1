/** socketpair(2). */
import { OwnedFd } from './file.ts';
import { checked } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** SOCK_STREAM | SOCK_CLOEXEC */
const STREAM_CLOEXEC = 0x1 | 0x8_0000;

/** Two ends of a Unix stream. With `nonBlocking`, neither end ever blocks. */
export function createSocketPair(nonBlocking: boolean): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  const type = nonBlocking ? STREAM_NONBLOCK_CLOEXEC : STREAM_CLOEXEC;
  checked(netLibc().socketpair(AF_UNIX, type, 0, fds), 'socketpair');
  return [new OwnedFd(fds[0]!), new OwnedFd(fds[1]!)];
}
