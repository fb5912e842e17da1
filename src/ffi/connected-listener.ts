/** A listening Unix socket for a process that accepts one connection, in which ours waits already. (unix(7)) */
import { OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, SOCKADDR_UN } from './socket-abi.ts';
import { STREAM_CLOEXEC, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** sizeof(sa_family_t): Linux then chooses an address in the abstract namespace. */
const UNNAMED_BYTES = 2;

/**
 * Nobody can come before the connection, which is the first in the queue, so it needs no path with permissions. The
 * listener blocks, as programs expect that are handed one; the connection does not. Throws SyscallError.
 */
export function createConnectedListener(): { listener: OwnedFd; connection: OwnedFd } {
  using stack = new DisposableStack();
  const listener = stack.use(new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_CLOEXEC, 0), 'socket')));
  const address = new Uint8Array(SOCKADDR_UN.size);
  new DataView(address.buffer).setUint16(SOCKADDR_UN.family, AF_UNIX, true);
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
