/**
 * Listening Unix sockets of devices: accessible to this user only; replace stale sockets, but no other file.
 */
import { lstatSync, rmSync } from 'node:fs';
import { SyscallError } from '../../ffi/errno.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import { MAX_SOCKET_PATH_BYTES, probeListener, type ListenerState } from '../../ffi/unix-socket.ts';
import { listenAt } from '../../ffi/unix-stream.ts';
import { VoltError } from '../../volt-error.ts';

const TAKEN: Readonly<Partial<Record<ListenerState, string>>> = {
  listening: 'another process listens there',
  busy: 'another process listens there',
  other: 'a file is there already',
  forbidden: 'permission denied',
};

/**
 * Binds a socket and listens. `flag` precedes the path in messages; `suffixBytes` is the longest suffix that
 * related sockets append to the path. Throws VoltError 'host'.
 */
export function openListeningSocket(flag: string, path: string, suffixBytes = 0): OwnedFd {
  const bad = (found: string, expected: string, cause?: unknown) =>
    new VoltError('host', `Cannot use ${flag}${path}: ${found} (expected ${expected})`, { cause });
  const bytes = Buffer.byteLength(path);
  const maxBytes = MAX_SOCKET_PATH_BYTES - suffixBytes;
  if (bytes > maxBytes) throw bad(`the path has ${bytes} bytes`, `at most ${maxBytes}`);
  const state = probeListener(path);
  const taken = TAKEN[state];
  if (taken !== undefined) throw bad(taken, 'a path of its own for each guest');
  if (state === 'dead') rmSync(path, { force: true });
  if (state === 'missing' && lstatSync(path, { throwIfNoEntry: false }))
    throw bad('it is a dangling symbolic link', 'a path of its own for each guest');
  const mask = process.umask(0o177);
  try {
    return listenAt(path);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw bad(error.message, 'a path in a directory that you may write', error);
  } finally {
    process.umask(mask);
  }
}
