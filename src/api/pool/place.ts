/** Where the socket of a pool is. Loaded by every start of `volt`, so it loads nothing itself. */
import { existsSync } from 'node:fs';

const SOCKET_NAME = 'pool.sock';

/** Inputs to the paths of this user's sockets, as in control/directory.ts. */
export interface PoolPlaces {
  readonly uid: number;
  /** $XDG_RUNTIME_DIR */
  readonly runtimeDirectory: string | undefined;
  readonly run: string;
  readonly tmp: string;
}

/** The directories in which `volt ps` looks for sockets of this user, in its order. */
function directories({ uid, runtimeDirectory, run, tmp }: PoolPlaces): string[] {
  return [
    ...(runtimeDirectory?.startsWith('/') ? [`${runtimeDirectory}/volt`] : []),
    ...(uid === 0 ? [`${run}/volt`] : []),
    `${tmp}/volt-${uid}`,
  ];
}

export function poolSocketIn(directory: string): string {
  return `${directory}/${SOCKET_NAME}`;
}

/** The socket of this user's pool; undefined: none runs. Whoever listens there is checked by the client. */
export function findPoolSocket(places: PoolPlaces): string | undefined {
  return directories(places)
    .map(poolSocketIn)
    .find((path) => existsSync(path));
}
