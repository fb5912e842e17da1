/**
 * Where the control sockets of running guests are found: `<directory>/<pid>.sock`, either the socket itself or, for a
 * guest with a path of its own, a symbolic link to it.
 */
import { mkdirSync, readdirSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { probeListener } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';
import { callOnce } from './client.ts';
import { statAt } from './socket-file.ts';
import type { VmStatus } from './target.ts';

/** What decides where this user's sockets are. */
export interface SocketPlaces {
  readonly uid: number;
  /** $XDG_RUNTIME_DIR */
  readonly runtimeDirectory: string | undefined;
  readonly run: string;
  readonly tmp: string;
}

/** A running guest of this user, as `volt ps` lists it. */
export interface GuestSocket {
  readonly pid: number;
  /** What to connect to. */
  readonly path: string;
  /** undefined: it did not answer in time; it may be stopped, or very busy. */
  readonly status: VmStatus | undefined;
}

const ENTRY = /^(\d{1,10})\.sock$/;
const STATUS_TIMEOUT_MS = 1000;

function hostPlaces(): SocketPlaces {
  return {
    uid: process.getuid?.() ?? 0,
    runtimeDirectory: process.env['XDG_RUNTIME_DIR'],
    run: '/run',
    tmp: '/tmp',
  };
}

/** The socket path of process `pid`, in a directory that exists. Throws VoltError 'host' when there can be none. */
export function defaultSocketPath(pid: number, places: SocketPlaces = hostPlaces()): string {
  return join(openDirectory(places), `${pid}.sock`);
}

/** Lists the socket at `path` as that of process `pid`, as well as that can be done. Returns what takes it back. */
export function claimEntry(pid: number, path: string, places: SocketPlaces = hostPlaces()): () => void {
  try {
    const entry = join(openDirectory(places), `${pid}.sock`);
    if (entry === path) return () => {};
    // A process with this number that was killed may have left one.
    removeEntry(entry);
    symlinkSync(path, entry);
    return () => {
      if (linkTarget(entry) === path) removeEntry(entry);
    };
  } catch {
    // The guest has its socket where it was told to; only `volt ps` will not know.
    return () => {};
  }
}

/** This user's running guests, by process id. Sockets that processes left behind when they were killed are removed. */
export async function listSockets(places: SocketPlaces = hostPlaces()): Promise<readonly GuestSocket[]> {
  const entries = readableDirectories(places).flatMap(entriesOf);
  const guests = await Promise.all(entries.map(askEntry));
  return guests.filter((guest) => guest !== undefined).sort((a, b) => a.pid - b.pid);
}

/** The socket of process `pid`. Throws VoltError 'host' when it has none. */
export function findSocket(pid: number, places: SocketPlaces = hostPlaces()): string {
  for (const directory of readableDirectories(places)) {
    const path = join(directory, `${pid}.sock`);
    if (statAt(path)) return linkTarget(path) ?? path;
  }
  throw new VoltError(
    'host',
    `Cannot find a guest with process id ${pid}: it has no control socket (expected one that volt ps lists)`,
  );
}

interface Entry {
  readonly pid: number;
  readonly path: string;
}

function entriesOf(directory: string): Entry[] {
  return namesIn(directory).flatMap((name) => {
    const pid = ENTRY.exec(name)?.[1];
    return pid === undefined ? [] : [{ pid: Number(pid), path: join(directory, name) }];
  });
}

async function askEntry({ pid, path }: Entry): Promise<GuestSocket | undefined> {
  const state = probeListener(path);
  if (state === 'dead' || state === 'missing' || state === 'other') {
    if (!isAlive(pid)) removeEntry(path);
    return undefined;
  }
  const to = linkTarget(path) ?? path;
  try {
    return { pid, path: to, status: await callOnce(to, 'status', {}, STATUS_TIMEOUT_MS) };
  } catch {
    return { pid, path: to, status: undefined };
  }
}

function candidates({ uid, runtimeDirectory, run, tmp }: SocketPlaces): { parent: string; path: string }[] {
  const places: { parent: string; path: string }[] = [];
  if (runtimeDirectory !== undefined && isAbsolute(runtimeDirectory)) {
    places.push({ parent: runtimeDirectory, path: join(runtimeDirectory, 'volt') });
  }
  if (uid === 0) places.push({ parent: run, path: join(run, 'volt') });
  places.push({ parent: tmp, path: join(tmp, `volt-${uid}`) });
  return places;
}

/** Of all directories that this user's guests may have used: another shell may have had another environment. */
function readableDirectories(places: SocketPlaces): string[] {
  const session = join(places.run, 'user', String(places.uid), 'volt');
  const paths = [...candidates(places).map(({ path }) => path), session];
  return [...new Set(paths)].filter((path) => problemOf(path, places.uid) === undefined);
}

/** The first directory that can be had, made if need be. */
function openDirectory(places: SocketPlaces): string {
  const problems: string[] = [];
  for (const { path, parent } of candidates(places)) {
    const shared = parent === places.tmp;
    if (!shared && statAt(parent)?.uid !== places.uid) {
      problems.push(`${parent} is not yours`);
      continue;
    }
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'EEXIST') {
        problems.push(message);
        continue;
      }
    }
    const problem = problemOf(path, places.uid);
    if (problem === undefined) return path;
    problems.push(`${path} ${problem}`);
  }
  throw new VoltError(
    'host',
    `Cannot open the directory of control sockets: ${problems.join('; ')} (expected a directory of yours with mode 0700)`,
  );
}

/** Why sockets in this directory cannot be trusted; undefined if they can. In /tmp anybody could have made it. */
function problemOf(path: string, uid: number): string | undefined {
  const stat = statAt(path);
  if (!stat) return 'does not exist';
  if (!stat.isDirectory()) return 'is not a directory';
  if (stat.uid !== uid) return `belongs to user ${stat.uid}`;
  if ((stat.mode & 0o077) !== 0) return `has mode 0${(stat.mode & 0o777).toString(8)}`;
  return undefined;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Removes a socket or a link; whatever else somebody put there stays. */
function removeEntry(path: string): void {
  const stat = statAt(path);
  if (!stat?.isSocket() && !stat?.isSymbolicLink()) return;
  try {
    unlinkSync(path);
  } catch {
    // Somebody else was faster.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
