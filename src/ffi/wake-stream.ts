/**
 * How threads without JavaScript wake up the event loop: a stream that they write a byte to. One for the process, made
 * before the sandbox, which allows no new ones; a socket, because the runtime's event loop waits for those, while files
 * take up one of its few threads each.
 */
import type { Socket } from 'bun';
import { createSocketPair } from './socket-pair.ts';

const readers = new Set<() => void>();
let writeFd: number | undefined;

/** The descriptor to write to. Opens the mailbox if need be. */
export function wakeFd(): number {
  writeFd ??= openMailbox();
  return writeFd;
}

/** Calls `onMail` after each byte or more, until the returned function is called. Keeps no process alive. */
export function onWake(onMail: () => void): () => void {
  wakeFd();
  readers.add(onMail);
  return () => void readers.delete(onMail);
}

function openMailbox(): number {
  const [readEnd, writeEnd] = createSocketPair(true);
  // bun-types have the option but leave it out of the signatures.
  const options = {
    fd: readEnd.fd,
    socket: {
      open: (socket: Socket<undefined>) => socket.unref(),
      data: () => readers.forEach(callSafely),
    },
  } as unknown as Bun.UnixSocketOptions<undefined>;
  void Bun.connect(options);
  return writeEnd.fd;
}

/** What is wrong with one machine is not to keep another from its mail. */
function callSafely(onMail: () => void): void {
  try {
    onMail();
  } catch (error) {
    reportError(error);
  }
}
