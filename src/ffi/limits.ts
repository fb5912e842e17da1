/** Resource limits of this process. (getrlimit(2)) */
import { getU64, putU64, viewOf } from '../binary/bytes.ts';
import { checked, libc } from './libc.ts';

const RLIMIT_NOFILE = 7;
/** struct rlimit { rlim_t rlim_cur, rlim_max; } */
const RLIMIT_BYTES = 16;

/**
 * Raises the soft limit on open files (RLIMIT_NOFILE) to `wanted`, or to the hard limit if that is lower.
 * Returns the soft limit. Throws SyscallError.
 */
export function raiseOpenFilesLimit(wanted: number): number {
  // SAFETY: one struct rlimit, which the kernel accesses only during each call.
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
