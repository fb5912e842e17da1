/** Whether a command line is for a pool. Loaded by every start of `volt`, so it loads next to nothing. */
import { findPoolSocket, poolSocketIn, type PoolPlaces } from '../api/pool/place.ts';

/** The command of an idle process, followed by the process id of its pool. */
export const POOL_PROCESS = 'pool-process';

/** Flags of another process than the caller's: a jail changes who it is. */
const NEVER = /^--(no-pool|jail)(=|$)/;

export function hostPlaces(): PoolPlaces {
  return {
    uid: process.getuid?.() ?? 0,
    runtimeDirectory: process.env['XDG_RUNTIME_DIR'],
    run: '/run',
    tmp: '/tmp',
  };
}

/** Variables that act on a process from its start on: the dynamic linker's and the allocators'. */
const AT_START = /^(LD_|MALLOC_|MIMALLOC_|GLIBC_TUNABLES$)/;

/** Socket of the pool that may run this command line of `volt run` or `volt restore`; undefined: none runs. */
export function choosePool(words: readonly string[]): string | undefined {
  const socket = socketFor(words);
  if (socket === undefined || words.some((word) => NEVER.test(word))) return undefined;
  // A service manager watches the process that it has started.
  if (process.env['NOTIFY_SOCKET'] !== undefined) return undefined;
  return Object.keys(process.env).some((name) => AT_START.test(name)) ? undefined : socket;
}

function socketFor(words: readonly string[]): string | undefined {
  const at = words.findIndex((word) => /^--pool(=|$)/.test(word));
  if (at < 0) return findPoolSocket(hostPlaces());
  const directory = words[at]!.includes('=') ? words[at]!.slice('--pool='.length) : words[at + 1];
  return directory === undefined ? undefined : poolSocketIn(directory);
}
