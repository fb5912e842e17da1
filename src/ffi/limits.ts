/** Resource limits of this process. */
import { getU64, viewOf } from '../binary/bytes.ts';
import { checked, libc } from './libc.ts';

const RLIMIT_NOFILE = 7;
/** struct rlimit { rlim_t rlim_cur, rlim_max; } */
const RLIMIT_BYTES = 16;

/** Most file descriptors this process may have open (RLIMIT_NOFILE, soft); huge where there is no limit. */
export function openFilesLimit(): number {
  const limit = new Uint8Array(RLIMIT_BYTES);
  checked(libc.getrlimit(RLIMIT_NOFILE, limit), 'getrlimit');
  return getU64(viewOf(limit), 0);
}
