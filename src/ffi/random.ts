/** getrandom(2). */
import { ERRNO, SyscallError } from './errno.ts';
import { ioLibc } from './io-libc.ts';
import { addressOf, asPointer, checked, lastErrno, libc, type HostPointer } from './libc.ts';

const SYS_GETRANDOM = 318;
/** So many bytes come at once, whatever signals arrive. (getrandom(2)) */
const WHOLE_BYTES = 256;

/**
 * `bytes` random bytes, at most 256. A process that has just started gets them in microseconds, where the
 * first use of WebCrypto takes 0.15 ms. Throws SyscallError.
 */
export function randomBytes(bytes: number): Uint8Array {
  if (bytes > WHOLE_BYTES)
    throw new RangeError(`Cannot get ${bytes} random bytes at once (expected at most 256)`);
  const random = new Uint8Array(bytes);
  // SAFETY: the array is alive and as large as the kernel is told.
  checked(Number(libc.syscall(SYS_GETRANDOM, addressOf(random), bytes, 0, 0, 0, 0)), 'getrandom');
  return random;
}

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
