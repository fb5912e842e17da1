/** Sends state notifications to the service manager. (sd_notify(3), NOTES) */
import { libc } from '../ffi/libc.ts';
import { connectDatagram } from '../ffi/unix-socket.ts';

/**
 * Connects to `address`, the value of NOTIFY_SOCKET; call it before the sandbox is entered. Returns a
 * function that sends a state such as `READY=1`. If no manager listens, the function does nothing, and the
 * guest runs anyway.
 */
export function connectServiceManager(address: string): (state: string) => void {
  const socket = connectDatagram(address);
  return (state) => {
    const bytes = Buffer.from(state);
    if (socket) libc.write(socket.fd, bytes, bytes.length);
  };
}
