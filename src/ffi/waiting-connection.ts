/** A listening Unix socket for a process that accepts one connection, in which ours waits already. (unix(7)) */
import { OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** SOCK_STREAM | SOCK_CLOEXEC */
const STREAM_CLOEXEC = 0x1 | 0x8_0000;
/** sizeof(sa_family_t): Linux then chooses an address in the abstract namespace. */
const UNNAMED_BYTES = 2;
const SOCKADDR_UN_BYTES = 110;

/**
 * Nobody can come before the connection, which is the first in the queue, so it needs no path with permissions. The
 * listener blocks, as programs expect that are handed one; the connection does not. Throws SyscallError.
 */
export function createWaitingConnection(): { listener: OwnedFd; connection: OwnedFd } {
  using stack = new DisposableStack();
  const listener = stack.use(new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_CLOEXEC, 0), 'socket')));
  const address = new Uint8Array(SOCKADDR_UN_BYTES);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  checked(netLibc().bind(listener.fd, address, UNNAMED_BYTES), 'bind');
  const length = Uint32Array.of(address.length);
  checked(netLibc().getsockname(listener.fd, address, length), 'getsockname');
  checked(netLibc().listen(listener.fd, 1), 'listen');
  const socket = checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket');
  const connection = stack.use(new OwnedFd(socket));
  checked(libc.connect(connection.fd, address, length[0]!), 'connect');
  stack.move();
  return { listener, connection };
}
