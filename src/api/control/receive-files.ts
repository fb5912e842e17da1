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
const ANSWER_MS = { 'send-files': 5000, 'send-device': 5000, commit: 3_600_000 } as const satisfies Record<
  ClientAsk,
  number
>;
/** Snapshots, dumps and traces ask for files; how a client opens them is the same. */
const FILES = { failed: "Cannot use the client's files", command: 'volt ctl' };
const REFUSAL = {
  'send-files': FILES,
  commit: FILES,
  'send-device': { failed: 'Cannot plug the device', command: 'volt ctl PID plug' },
} as const satisfies Record<ClientAsk, object>;
const POLL_MS = 2;
const NEWLINE = 0x0a;
const F_GETFL = 3;
const ACCESS_MODE = 3;

/**
 * Receives the answer to what Volt asked its client for: one newline, with exactly `files` descriptors. Those of
 * a snapshot are of regular files that can be read and written at any offset. Throws VoltError for anything else, with every
 * descriptor closed that came.
 */
export async function receiveAnswer(fd: number, { what, files, isGone }: Wanted): Promise<OwnedFd[]> {
  const refused = (found: string) =>
    new VoltError('usage', `${REFUSAL[what].failed}: ${found}; use ${REFUSAL[what].command}`);
  checkPeer(fd, refused);
  const timeoutMs = ANSWER_MS[what];
  const deadline = performance.now() + timeoutMs;
  while (pollFd(fd, POLL.in, 0) <= 0) {
    if (performance.now() > deadline)
      throw refused(`the client did not answer ${what} in ${timeoutMs / 1000} s`);
    await Bun.sleep(POLL_MS);
    if (isGone() || hasHungUp(fd)) throw refused('the client has closed the connection');
  }
  const target = new Uint8Array(1);
  const received = { ...receiveWithFds(fd, target, files), byte: target[0]! };
  return takeFiles(received, files, what === 'send-device' ? checkDeviceFile : checkFile, refused);
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
  check: (fd: number) => string | undefined,
  refused: (found: string) => VoltError,
): OwnedFd[] {
  try {
    if (bytes !== 1 || byte !== NEWLINE || truncated || fds.length !== count) {
      const found = truncated ? `more than ${count}` : String(fds.length);
      throw refused(`${found} descriptors came (expected ${count}, with one newline)`);
    }
    const problem = fds.map(check).find((each) => each !== undefined);
    if (problem !== undefined) throw refused(problem);
  } catch (error) {
    for (const each of fds) closeSync(each);
    throw error;
  }
  return fds.map((each) => new OwnedFd(each));
}

/** A write to another kind of file could block, and one to a file opened for appending ignores its offset. */
function checkFile(fd: number): string | undefined {
  if (!fstatSync(fd).isFile()) return 'a descriptor is not that of a regular file';
  const flags = libc.fcntl(fd, F_GETFL, 0);
  if ((flags & ACCESS_MODE) === OPEN.readWrite && (flags & OPEN.append) === 0) return undefined;
  return 'a file is not open for reading and writing';
}

/** A file or block device for a disk, or a character device for a tap; what it is good for shows its first use. */
function checkDeviceFile(fd: number): string | undefined {
  const status = fstatSync(fd);
  if (!status.isFile() && !status.isBlockDevice() && !status.isCharacterDevice())
    return 'a descriptor is not that of a disk or a tap';
  return libc.fcntl(fd, F_GETFL, 0) & OPEN.append ? 'a file is open for appending' : undefined;
}

/** The socket's mode and directory allow no other users; a descriptor of it may have been passed on. */
function checkPeer(fd: number, refused: (found: string) => VoltError): void {
  const uid = peerCredentials(fd)?.uid;
  if (uid === 0 || uid === process.getuid?.()) return;
  throw refused("the client is another user's process (expected the user who started the guest, or root)");
}
