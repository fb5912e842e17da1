/** The directories that hold this user's control sockets, and whether they can be trusted. */
import { chmodSync, mkdirSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { VoltError } from '../../volt-error.ts';
import { statAt } from './socket-file.ts';

/** Inputs to the paths of this user's sockets. */
export interface SocketPlaces {
  readonly uid: number;
  /** $XDG_RUNTIME_DIR */
  readonly runtimeDirectory: string | undefined;
  readonly run: string;
  readonly tmp: string;
}

export function hostPlaces(): SocketPlaces {
  return {
    uid: process.getuid?.() ?? 0,
    runtimeDirectory: process.env['XDG_RUNTIME_DIR'],
    run: '/run',
    tmp: '/tmp',
  };
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
export function readableDirectories(places: SocketPlaces): string[] {
  const session = { path: join(places.run, 'user', String(places.uid), 'volt'), mode: PRIVATE };
  const usable = [...candidates(places), session].filter(
    ({ path, mode }) => problemOf(path, places.uid, mode) === undefined,
  );
  return [...new Set(usable.map(({ path }) => path))];
}

/** The first usable directory; created if it does not exist. */
export function openDirectory(places: SocketPlaces): string {
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
