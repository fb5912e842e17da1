/** Resource limits of this process. */
import { getU64, putU64, viewOf } from '../binary/bytes.ts';
import { checked, libc } from './libc.ts';

const RLIMIT_NOFILE = 7;
/** struct rlimit { rlim_t rlim_cur, rlim_max; } */
const RLIMIT_BYTES = 16;

/**
 * How many file descriptors this process may have open (RLIMIT_NOFILE), once it has raised its soft limit to
 * `wanted` as far as the hard one allows.
 */
export function raiseOpenFilesLimit(wanted: number): number {
  const limit = new Uint8Array(RLIMIT_BYTES);
  checked(libc.getrlimit(RLIMIT_NOFILE, limit), 'getrlimit');
  const view = viewOf(limit);
  const soft = getU64(view, 0);
  const raised = Math.min(wanted, getU64(view, 8));
  if (soft >= raised) return soft;
  putU64(view, 0, raised);
  checked(libc.setrlimit(RLIMIT_NOFILE, limit), 'setrlimit');
  return raised;
}
