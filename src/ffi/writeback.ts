/**
 * Starts writing a file to its disk while others still write to the file, so that a flush at the end finds little left.
 * (sync_file_range(2))
 */
import { libc } from './libc.ts';

/** (asm/unistd_64.h, linux/fs.h) */
const SYS_SYNC_FILE_RANGE = 277;
const SYNC_FILE_RANGE_WRITE = 2;
const INTERVAL_MS = 5;

/** Goes on until the returned object is disposed of, before `fd` is closed. It flushes nothing itself, and no failure matters. */
export function startWriteback(fd: number): Disposable {
  const timer = setInterval(
    () => libc.syscall(SYS_SYNC_FILE_RANGE, fd, 0, 0, SYNC_FILE_RANGE_WRITE, 0, 0),
    INTERVAL_MS,
  );
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
