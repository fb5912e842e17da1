/**
 * Wakes up the event loop from threads without JavaScript, which write a byte to a socket pair. The process
 * has one, created before the sandbox is entered, which allows no new sockets. It is a socket because Bun's
 * event loop polls sockets, while each read of another file occupies one of its few threads.
 */
import type { Socket } from 'bun';
import { createSocketPair } from './socket-pair.ts';

const listeners = new Set<() => void>();
let writeFd: number | undefined;

/** The descriptor to write to. Creates the socket pair on the first call. Throws SyscallError. */
export function wakeFd(): number {
  writeFd ??= openStream();
  return writeFd;
}

/**
 * Calls `listener` after each wake-up until the returned function is called. Does not keep the process alive.
 */
export function onWake(listener: () => void): () => void {
  wakeFd();
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function openStream(): number {
  const [readEnd, writeEnd] = createSocketPair(true);
  // bun-types declare the option `fd` but not in the signatures of connect.
  const options = {
    fd: readEnd.fd,
    socket: {
      open: (socket: Socket<undefined>) => socket.unref(),
      data: () => listeners.forEach(callSafely),
    },
  } as unknown as Bun.UnixSocketOptions<undefined>;
  void Bun.connect(options);
  return writeEnd.fd;
}

/** An error of one machine's listener must not keep the others from being called. */
function callSafely(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    reportError(error);
  }
}
