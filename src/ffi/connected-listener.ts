/** A listening Unix socket whose backlog holds connections already. (unix(7)) */
import { OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_UNIX, SOCKADDR_UN } from './socket-abi.ts';
import { STREAM_CLOEXEC, STREAM_NONBLOCK_CLOEXEC } from './unix-socket.ts';

/** sizeof(sa_family_t): with this length, bind(2) chooses a name in the abstract namespace. */
const AUTOBIND_BYTES = 2;

/**
 * For a helper program that is given a listening socket and accepts connections one after another. Volt's `count`
 * connections are first in the backlog, in order, so no other process can take their place and no path with
 * permissions is needed. The listener is blocking, as programs expect; the connections are not. Throws
 * SyscallError.
 */
export function createConnectedListener(count: number): { listener: OwnedFd; connections: OwnedFd[] } {
  using stack = new DisposableStack();
  const listener = stack.use(new OwnedFd(checked(libc.socket(AF_UNIX, STREAM_CLOEXEC, 0), 'socket')));
  // SAFETY: the kernel accesses `address` and `length` only during each call.
  const address = new Uint8Array(SOCKADDR_UN.size);
  new DataView(address.buffer).setUint16(SOCKADDR_UN.family, AF_UNIX, true);
  checked(netLibc().bind(listener.fd, address, AUTOBIND_BYTES), 'bind');
  const length = Uint32Array.of(address.length);
  checked(netLibc().getsockname(listener.fd, address, length), 'getsockname');
  checked(netLibc().listen(listener.fd, count), 'listen');
  const connections = Array.from({ length: count }, () => {
    const socket = checked(libc.socket(AF_UNIX, STREAM_NONBLOCK_CLOEXEC, 0), 'socket');
    const connection = stack.use(new OwnedFd(socket));
    checked(libc.connect(connection.fd, address, length[0]!), 'connect');
    return connection;
  });
  stack.move();
  return { listener, connections };
}
