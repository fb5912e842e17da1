/**
 * Paths of the control sockets of running guests: `<directory>/<pid>.sock` is the socket itself or, with
 * `--control PATH`, a symbolic link to it. Guests of volt@NAME.service have `/run/volt/NAME/control.sock`.
 */
import { chmodSync, mkdirSync, readdirSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { listenerPid, probeListener } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';
import { callOnce } from './client.ts';
import { statAt } from './socket-file.ts';
import type { VmStatus } from './target.ts';

/** Inputs to the paths of this user's sockets. */
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
  /** Path to connect to. */
  readonly path: string;
  /** undefined: it did not answer in time; it may be stopped, or very busy. */
  readonly status: VmStatus | undefined;
}

const ENTRY = /^(\d{1,10})\.sock$/;
const UNIT_SOCKET = 'control.sock';
const STATUS_TIMEOUT_MS = 1000;

function hostPlaces(): SocketPlaces {
  return {
    uid: process.getuid?.() ?? 0,
    runtimeDirectory: process.env['XDG_RUNTIME_DIR'],
    run: '/run',
    tmp: '/tmp',
  };
}

/**
 * The socket path of process `pid`, in a directory that exists. Throws VoltError 'host' if none can be
 * created.
 */
export function defaultSocketPath(pid: number, places: SocketPlaces = hostPlaces()): string {
  return join(openDirectory(places), `${pid}.sock`);
}

/**
 * Lists the socket at `path` as that of process `pid`, if possible. Returns a function that removes the
 * entry.
 */
export function claimEntry(pid: number, path: string, places: SocketPlaces = hostPlaces()): () => void {
  try {
    const entry = join(openDirectory(places), `${pid}.sock`);
    if (entry === path) return () => {};
    // A killed process with the same id may have left one.
    removeEntry(entry);
    symlinkSync(path, entry);
    return () => {
      if (linkTarget(entry) === path) removeEntry(entry);
    };
  } catch {
    // The guest has its socket at the requested path; only `volt ps` does not list it.
    return () => {};
  }
}

/**
 * This user's running guests, by process id; for root also those of systemd units. Removes sockets of killed
 * processes.
 */
export async function listSockets(places: SocketPlaces = hostPlaces()): Promise<readonly GuestSocket[]> {
  const entries = readableDirectories(places).flatMap(entriesOf);
  const listed = await Promise.all(entries.map(askEntry));
  const known = new Set(listed.map((guest) => guest?.path));
  const units = unitEntries(places).filter(({ path }) => !known.has(path));
  const guests = [...listed, ...(await Promise.all(units.map(askSocket)))];
  return guests.filter((guest) => guest !== undefined).sort((a, b) => a.pid - b.pid);
}

/** The socket of process `pid`. Throws VoltError 'host' if it has none. */
export function findSocket(pid: number, places: SocketPlaces = hostPlaces()): string {
  for (const directory of readableDirectories(places)) {
    const path = join(directory, `${pid}.sock`);
    if (statAt(path)) return linkTarget(path) ?? path;
  }
  const unit = unitEntries(places).find((entry) => entry.pid === pid);
  if (unit) return unit.path;
  throw new VoltError(
    'host',
    `Cannot find a guest with process id ${pid}: it has no control socket; volt ps lists those that have one`,
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

/**
 * The process id comes from the socket, not from the guest's answer: units run as users that are not trusted.
 */
function unitEntries({ uid, run }: SocketPlaces): Entry[] {
  if (uid !== 0) return [];
  return namesIn(join(run, 'volt')).flatMap((name) => {
    const path = join(run, 'volt', name, UNIT_SOCKET);
    const pid = statAt(path)?.isSocket() ? listenerPid(path) : undefined;
    return pid === undefined ? [] : [{ pid, path }];
  });
}

async function askEntry({ pid, path }: Entry): Promise<GuestSocket | undefined> {
  const state = probeListener(path);
  if (state === 'dead' || state === 'missing' || state === 'other') {
    if (!isAlive(pid)) removeEntry(path);
    return undefined;
  }
  return askSocket({ pid, path: linkTarget(path) ?? path });
}

async function askSocket({ pid, path }: Entry): Promise<GuestSocket> {
  try {
    return { pid, path, status: await callOnce(path, 'status', {}, STATUS_TIMEOUT_MS) };
  } catch {
    return { pid, path, status: undefined };
  }
}

interface Candidate {
  readonly parent: string;
  readonly path: string;
  readonly mode: number;
}

const PRIVATE = 0o700;
/**
 * systemd creates a directory per unit in /run/volt, which the unit's user must reach. Sockets have mode
 * 0600.
 */
const SEARCHABLE = 0o755;

function candidates({ uid, runtimeDirectory, run, tmp }: SocketPlaces): Candidate[] {
  const places: Candidate[] = [];
  if (runtimeDirectory !== undefined && isAbsolute(runtimeDirectory)) {
    places.push({ parent: runtimeDirectory, path: join(runtimeDirectory, 'volt'), mode: PRIVATE });
  }
  if (uid === 0) places.push({ parent: run, path: join(run, 'volt'), mode: SEARCHABLE });
  places.push({ parent: tmp, path: join(tmp, `volt-${uid}`), mode: PRIVATE });
  return places;
}

/** All directories that this user's guests may use, as another shell may have another environment. */
function readableDirectories(places: SocketPlaces): string[] {
  const session = { path: join(places.run, 'user', String(places.uid), 'volt'), mode: PRIVATE };
  const usable = [...candidates(places), session].filter(
    ({ path, mode }) => problemOf(path, places.uid, mode) === undefined,
  );
  return [...new Set(usable.map(({ path }) => path))];
}

/** The first usable directory; created if it does not exist. */
function openDirectory(places: SocketPlaces): string {
  const problems: string[] = [];
  for (const { path, parent, mode } of candidates(places)) {
    const shared = parent === places.tmp;
    if (!shared && statAt(parent)?.uid !== places.uid) {
      problems.push(`${parent} is not yours`);
      continue;
    }
    try {
      mkdirSync(path, { mode });
      if (mode === SEARCHABLE) chmodSync(path, mode);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'EEXIST') {
        problems.push(message);
        continue;
      }
    }
    const problem = problemOf(path, places.uid, mode);
    if (problem === undefined) return path;
    problems.push(`${path} ${problem}`);
  }
  throw new VoltError(
    'host',
    `Cannot open the directory of control sockets: ${problems.join(', ')} (expected a directory of yours with mode 0700)`,
  );
}

/** Why sockets in this directory cannot be trusted; undefined if they can. Any user can create it in /tmp. */
function problemOf(path: string, uid: number, mode: number): string | undefined {
  const stat = statAt(path);
  if (!stat) return 'does not exist';
  if (!stat.isDirectory()) return 'is not a directory';
  if (stat.uid !== uid) return `belongs to user ${stat.uid}`;
  if ((stat.mode & 0o777 & ~mode) !== 0) return `has mode 0${(stat.mode & 0o777).toString(8)}`;
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

/** Removes a socket or a link, and nothing else. */
function removeEntry(path: string): void {
  const stat = statAt(path);
  if (!stat?.isSocket() && !stat?.isSymbolicLink()) return;
  try {
    unlinkSync(path);
  } catch {
    // Another process has removed it.
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
