/**
 * The file of a listening Unix socket: it appears at its path atomically with mode 0600, and replaces nothing
 * but a socket that no process listens on.
 *
 * bind(2) applies the process's umask, which all threads share. So the socket is bound in a new directory of
 * mode 0700, its mode is set there, and it is then linked to its path, which fails if the path exists.
 */
import {
  chmodSync,
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  type Stats,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MAX_SOCKET_PATH_BYTES, probeListener } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';

const TRIES = 3;

export interface SocketFile {
  readonly path: string;
  /** Removes the file, if it is still this socket's. */
  remove(): void;
}

/**
 * Calls `bind` with a path to listen at, then moves the socket to `path`. Throws VoltError 'host' with
 * nothing left behind; the caller then stops listening.
 */
export function placeSocket(path: string, bind: (path: string) => void): SocketFile {
  const target = resolve(path);
  checkPathLength(target);
  const folder = makeFolder(target);
  try {
    const bound = join(folder, 'socket');
    bindAt(bound, bind);
    chmodSync(bound, 0o600);
    const { dev, ino } = lstatSync(bound);
    linkIntoPlace(bound, target, folder);
    return { path: target, remove: () => removeIfSame(target, dev, ino) };
  } catch (error) {
    if (error instanceof VoltError) throw error;
    throw cannotOpen(target, (error as Error).message, 'a path where you may create a socket', error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkPathLength(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES)
    throw cannotOpen(path, `its path has ${bytes} bytes`, `at most ${MAX_SOCKET_PATH_BYTES}`);
}

/** lstat of `path`; undefined on any failure. */
export function statAt(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch {
    return undefined;
  }
}

function makeFolder(path: string): string {
  const parent = dirname(path);
  try {
    return mkdtempSync(join(parent, '.volt-'));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const found: Readonly<Record<string, string>> = {
      ENOENT: `there is no directory ${parent}`,
      ENOTDIR: `${parent} is not a directory`,
      EACCES: `you may not write to ${parent}`,
      EROFS: `${parent} is read-only`,
    };
    throw cannotOpen(
      path,
      found[code ?? ''] ?? message,
      'a path in a directory that you may write to',
      error,
    );
  }
}

/** Binds through the directory's descriptor if the path in the new directory would be too long. */
function bindAt(path: string, bind: (path: string) => void): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return bind(path);
  const fd = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    bind(`/proc/self/fd/${fd}/${basename(path)}`);
  } finally {
    closeSync(fd);
  }
}

function linkIntoPlace(bound: string, target: string, folder: string): void {
  for (let tries = 0; tries < TRIES; tries++) {
    if (moved(() => linkSync(bound, target), 'EEXIST')) return;
    clearStale(target, join(folder, `stale-${tries}`));
  }
  throw inUse(target);
}

/** Removes a dead socket from `path`. Throws VoltError for anything else. */
function clearStale(path: string, aside: string): void {
  const found = statAt(path);
  if (!found) return;
  if (!found.isSocket())
    throw cannotOpen(
      path,
      'it exists and is not a socket',
      'a free path, or the socket of a guest that ended',
    );
  const state = probeListener(path);
  if (state === 'missing') return;
  if (state !== 'dead') throw inUse(path);
  if (!moved(() => renameSync(path, aside), 'ENOENT')) return;
  // Another Volt may have replaced it in between: only what was moved aside and is dead is removed.
  if (probeListener(aside) === 'dead') return;
  moved(() => linkSync(aside, path), 'EEXIST');
  throw inUse(path);
}

/** False if `move` failed with the error `late`: another process was faster. */
function moved(move: () => void, late: 'ENOENT' | 'EEXIST'): boolean {
  try {
    move();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === late) return false;
    throw error;
  }
}

function removeIfSame(path: string, dev: number, ino: number): void {
  const found = statAt(path);
  if (found?.dev !== dev || found.ino !== ino) return;
  try {
    unlinkSync(path);
  } catch {
    // The directory is read-only or gone. The dead socket stays; the next guest at this path replaces it.
  }
}

function inUse(path: string): VoltError {
  return cannotOpen(path, 'another process listens there', 'a different path for each guest');
}

function cannotOpen(path: string, found: string, expected: string, cause?: unknown): VoltError {
  return new VoltError('host', `Cannot open control socket ${path}: ${found} (expected ${expected})`, {
    cause,
  });
}
