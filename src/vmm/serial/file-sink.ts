/**
 * A console that is written to a file. A full disk does not stop the guest: lost bytes are counted and
 * reported.
 */
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { writeNonBlocking } from '../../ffi/file.ts';
import type { ConsoleSink } from './pump.ts';

const NO_ROOM = new Set<number>([ERRNO.ENOSPC, ERRNO.EDQUOT, ERRNO.EFBIG]);

/**
 * `say` is called once when the disk is full, and when there is room again; the file then gets a line that
 * says how much is missing.
 */
export function fileSink(fd: number, say: (line: string) => void, what = "the console's file"): ConsoleSink {
  let lost = 0;
  return (bytes) => {
    try {
      if (lost > 0) {
        const note = Buffer.from(`\n[volt: ${lost} bytes of console output had no room on the disk]\n`);
        // Only as a whole: the rest of a note that was cut would repeat it.
        if (writeNonBlocking(fd, note) === 0) return 0;
        say(`${what} has room again; ${lost} bytes of the console are missing from it`);
        lost = 0;
      }
      return writeNonBlocking(fd, bytes);
    } catch (error) {
      if (!(error instanceof SyscallError) || !NO_ROOM.has(error.errno)) throw error;
      if (lost === 0) say(`${what} has no room (${error.code}); the guest goes on without it`);
      lost += bytes.length;
      return bytes.length;
    }
  };
}
