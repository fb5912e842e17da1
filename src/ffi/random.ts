/** getrandom(2) into host memory. */
import { ERRNO, SyscallError } from './errno.ts';
import { ioLibc } from './io-libc.ts';
import { asPointer, lastErrno, type HostPointer } from './libc.ts';

/**
 * Fills `bytes` bytes at `host` with random bytes. Throws SyscallError.
 * SAFETY: the caller has checked that [host, host + bytes) is mapped writable.
 */
export function fillRandom(host: number, bytes: number): void {
  for (let done = 0; done < bytes;) {
    const got = Number(ioLibc().getrandom(asPointer((host + done) as HostPointer), bytes - done, 0));
    if (got > 0) {
      done += got;
      continue;
    }
    const errno = lastErrno();
    if (errno !== ERRNO.EINTR) throw new SyscallError('getrandom', errno);
  }
}
