/** Tells the service manager that started this process how it is. (sd_notify(3), NOTES) */
import { libc } from '../ffi/libc.ts';
import { connectDatagram } from '../ffi/unix-socket.ts';

/**
 * Connects to `address`, the value of NOTIFY_SOCKET, which is to be done before a sandbox is entered. Returns what tells a state
 * such as `READY=1`. A manager that does not listen is told nothing: the guest matters more.
 */
export function connectServiceManager(address: string): (state: string) => void {
  const socket = connectDatagram(address);
  return (state) => {
    const bytes = Buffer.from(state);
    if (socket) libc.write(socket.fd, bytes, bytes.length);
  };
}
