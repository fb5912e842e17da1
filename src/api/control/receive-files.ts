/**
 * Takes the files that a client of the control socket opened for a call: a guest in its sandbox opens none.
 *
 * The connection is paused while its call is answered, so the runtime reads nothing from it. Volt asks by a
 * line, `send-files`, and the client answers with one newline that carries the descriptors (SCM_RIGHTS).
 */
import { closeSync, fstatSync } from 'node:fs';
import { OPEN, OwnedFd } from '../../ffi/file.ts';
import { libc } from '../../ffi/libc.ts';
import { hasHungUp, POLL, pollFd } from '../../ffi/poll.ts';
import { receiveWithFds, type Received } from '../../ffi/receive-fds.ts';
import { peerCredentials } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';
import type { ClientAsk } from './target.ts';

/**
 * The client has opened its files before the call, so it answers `send-files` at once. Before it answers
 * `commit` it writes all of the snapshot to its disk.
 */
const ANSWER_MS = { 'send-files': 5000, commit: 3_600_000 } as const satisfies Record<ClientAsk, number>;
const POLL_MS = 2;
const NEWLINE = 0x0a;
const F_GETFL = 3;
const ACCESS_MODE = 3;

/**
 * Receives the answer to what Volt asked its client for: one newline, with exactly `files` descriptors of
 * regular files that can be read and written at any offset. Throws VoltError for anything else, with every
 * descriptor closed that came.
 */
export async function receiveAnswer(fd: number, { what, files, isGone }: Wanted): Promise<OwnedFd[]> {
  checkPeer(fd);
  const timeoutMs = ANSWER_MS[what];
  const deadline = performance.now() + timeoutMs;
  while (pollFd(fd, POLL.in, 0) <= 0) {
    if (performance.now() > deadline)
      throw refused(`the client did not answer ${what} in ${timeoutMs / 1000} s`);
    await Bun.sleep(POLL_MS);
    if (isGone() || hasHungUp(fd)) throw refused('the client has closed the connection');
  }
  const target = new Uint8Array(1);
  return takeFiles({ ...receiveWithFds(fd, target, files), byte: target[0]! }, files);
}

interface Wanted {
  readonly what: ClientAsk;
  readonly files: number;
  /** Whether the runtime has closed the socket, whose number may be another file's then. */
  readonly isGone: () => boolean;
}

function takeFiles(
  { bytes, fds, truncated, byte }: Received & { readonly byte: number },
  count: number,
): OwnedFd[] {
  try {
    if (bytes !== 1 || byte !== NEWLINE || truncated || fds.length !== count) {
      const found = truncated ? `more than ${count}` : String(fds.length);
      throw refused(`${found} descriptors came (expected ${count}, with one newline)`);
    }
    fds.forEach(checkFile);
  } catch (error) {
    for (const each of fds) closeSync(each);
    throw error;
  }
  return fds.map((each) => new OwnedFd(each));
}

/** A write to another kind of file could block, and one to a file opened for appending ignores its offset. */
function checkFile(fd: number): void {
  if (!fstatSync(fd).isFile()) throw refused('a descriptor is not that of a regular file');
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if ((flags & ACCESS_MODE) === OPEN.readWrite && (flags & OPEN.append) === 0) return;
  throw refused('a file is not open for reading and writing');
}

/** The socket's mode and directory allow no other users; a descriptor of it may have been passed on. */
function checkPeer(fd: number): void {
  const uid = peerCredentials(fd)?.uid;
  if (uid === 0 || uid === process.getuid?.()) return;
  throw refused("the client is another user's process (expected the user who started the guest, or root)");
}

function refused(found: string): VoltError {
  return new VoltError('usage', `Cannot use the client's files: ${found}; use volt ctl`);
}
