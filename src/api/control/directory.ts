/**
 * Paths of the control sockets of running guests: `<directory>/<pid>.sock` is the socket itself or, with
 * `--control PATH`, a symbolic link to it. A guest with a name has `<directory>/names/NAME.sock`, and one of
 * volt@NAME.service `/run/volt/NAME/control.sock`.
 */
import { mkdirSync, readdirSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { listenerPid, probeListener } from '../../ffi/unix-socket.ts';
import { VoltError } from '../../volt-error.ts';
import { callOnce } from './client.ts';
import { statAt } from './socket-file.ts';
import { hostPlaces, openDirectory, readableDirectories, type SocketPlaces } from './socket-places.ts';
import type { VmStatus } from './target.ts';

/** A running guest of this user, as `volt ps` lists it. */
export interface GuestSocket {
  readonly pid: number;
  /** Its name, by `--name` or by its unit; undefined: it has none. */
  readonly name?: string | undefined;
  /** Whether it is a service of systemd, volt@NAME. */
  readonly isUnit?: boolean;
  /** Path to connect to. */
  readonly path: string;
  /** undefined: it did not answer in time; it may be stopped, or very busy. */
  readonly status: VmStatus | undefined;
}

const ENTRY = /^(\d{1,10})\.sock$/;
const NAMED_ENTRY = /^(.+)\.sock$/;
const UNIT_SOCKET = 'control.sock';
/** The folder of the sockets and locks of guests with names. */
const NAMES_FOLDER = 'names';
const STATUS_TIMEOUT_MS = 1000;

/**
 * The socket path of process `pid`, in a directory that exists. Throws VoltError 'host' if none can be
 * created.
 */
export function defaultSocketPath(pid: number, places: SocketPlaces = hostPlaces()): string {
  return join(openDirectory(places), `${pid}.sock`);
}

/** The directory that sockets of this user's processes are in; created if needed. Throws VoltError 'host'. */
export function socketDirectory(): string {
  return openDirectory(hostPlaces());
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

/** The folder for the socket and the lock of a guest with a name; created if it does not exist. Throws VoltError. */
export function openNamesFolder(places: SocketPlaces = hostPlaces()): string {
  const folder = join(openDirectory(places), NAMES_FOLDER);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new VoltError('host', `Cannot name a guest: ${(error as Error).message}; make room there`, {
        cause: error,
      });
  }
  return folder;
}

/**
 * This user's running guests, by process id; for root also those of systemd units. Removes sockets of killed
 * processes.
 */
export async function listSockets(places: SocketPlaces = hostPlaces()): Promise<readonly GuestSocket[]> {
  const entries = readableDirectories(places).flatMap(entriesOf);
  const listed = await Promise.all(entries.map(askEntry));
  const known = new Set(listed.map((guest) => guest?.path));
  const named = listNamed(places).filter(({ path }) => !known.has(path));
  const guests = [...listed, ...(await Promise.all(named.map(askSocket)))];
  return guests.filter((guest) => guest !== undefined).sort((a, b) => a.pid - b.pid);
}

/** The socket of process `pid`. Throws VoltError 'host' if it has none. */
export function findSocket(pid: number, places: SocketPlaces = hostPlaces()): string {
  for (const directory of readableDirectories(places)) {
    const path = join(directory, `${pid}.sock`);
    if (statAt(path)) return linkTarget(path) ?? path;
  }
  const named = listNamed(places).find((entry) => entry.pid === pid);
  if (named) return named.path;
  throw new VoltError(
    'host',
    `Cannot find a guest with process id ${pid}: it has no control socket; volt ps lists those that have one`,
  );
}

/** A running guest without its status, which takes no answer from it. */
export type GuestEntry = Omit<GuestSocket, 'status'>;

/** Running guests that have a name. That a process listens at the socket is what makes them running. */
export function listNamed(places: SocketPlaces = hostPlaces()): readonly GuestEntry[] {
  const own = readableDirectories(places).flatMap((directory) =>
    namesIn(join(directory, NAMES_FOLDER)).flatMap((file) => {
      const name = NAMED_ENTRY.exec(file)?.[1];
      return name === undefined ? [] : entryAt(join(directory, NAMES_FOLDER, file), name, false);
    }),
  );
  return [...own, ...unitEntries(places)];
}

function entriesOf(directory: string): GuestEntry[] {
  return namesIn(directory).flatMap((file) => {
    const pid = ENTRY.exec(file)?.[1];
    if (pid === undefined) return [];
    return [{ pid: Number(pid), path: join(directory, file) }];
  });
}

function unitEntries({ uid, run }: SocketPlaces): GuestEntry[] {
  if (uid !== 0) return [];
  return namesIn(join(run, 'volt')).flatMap((name) =>
    entryAt(join(run, 'volt', name, UNIT_SOCKET), name, true),
  );
}

/**
 * The process id comes from the socket, not from the guest's answer: units run as users that are not trusted.
 */
function entryAt(path: string, name: string, isUnit: boolean): GuestEntry[] {
  const pid = statAt(path)?.isSocket() ? listenerPid(path) : undefined;
  return pid === undefined ? [] : [{ pid, path, name, isUnit }];
}

async function askEntry(entry: GuestEntry): Promise<GuestSocket | undefined> {
  const { pid, path } = entry;
  const state = probeListener(path);
  if (state === 'dead' || state === 'missing' || state === 'other') {
    if (!isAlive(pid)) removeEntry(path);
    return undefined;
  }
  return askSocket({ ...entry, path: linkTarget(path) ?? path });
}

async function askSocket(entry: GuestEntry): Promise<GuestSocket> {
  try {
    return { ...entry, status: await callOnce(entry.path, 'status', {}, STATUS_TIMEOUT_MS) };
  } catch {
    return { ...entry, status: undefined };
  }
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
