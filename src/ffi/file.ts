/** Operations on file descriptors that node:fs lacks, or has only with a copy. */
import { ERRNO, SyscallError } from './errno.ts';
import { asPointer, checked, cString, lastErrno, libc, type HostPointer } from './libc.ts';
import { POLL, pollFd } from './poll.ts';

export const OPEN = {
  readOnly: 0,
  writeOnly: 1,
  readWrite: 2,
  create: 0o100,
  exclusive: 0o200,
  noControllingTerminal: 0o400,
  truncate: 0o1000,
  append: 0o2000,
  closeOnExec: 0o2000000,
  nonBlocking: 0o4000,
} as const;

/** An owned file descriptor, closed exactly once. */
export class OwnedFd implements Disposable {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** open(2), always with O_CLOEXEC. Throws SyscallError. */
export function openFile(
  path: string,
  flags: number,
  advice?: (errno: number) => string | undefined,
  mode = 0o600,
): OwnedFd {
  const fd = checked(libc.open(cString(path), flags | OPEN.closeOnExec, mode), `open ${path}`, advice);
  return new OwnedFd(fd);
}

/**
 * Reads at byte `offset` until `target` is full or the file ends; returns the number of bytes read. Throws
 * SyscallError.
 */
export function readAt(fd: number, target: Uint8Array, offset: number): number {
  let done = 0;
  while (done < target.length) {
    const rest = target.subarray(done);
    const count = checked(Number(libc.pread(fd, rest, rest.length, offset + done)), 'pread');
    if (count === 0) break;
    done += count;
  }
  return done;
}

/**
 * Like `readAt`, to `bytes` bytes at host address `host`.
 * SAFETY: the caller owns the range, and no other thread accesses it during the call.
 */
export function readToAddress(fd: number, host: HostPointer, bytes: number, offset: number): number {
  let done = 0;
  while (done < bytes) {
    const rest = asPointer((host + done) as HostPointer);
    const count = checked(Number(libc.pread(fd, rest, bytes - done, offset + done)), 'pread');
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** fcntl(F_DUPFD_CLOEXEC): another descriptor of the same open file. Throws SyscallError. */
export function duplicateFd(fd: number): OwnedFd {
  return new OwnedFd(checked(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0), 'fcntl(F_DUPFD_CLOEXEC)'));
}

/**
 * Calls `visit` with each range of [offset, offset + bytes) that is no hole; where the file system knows no
 * holes, with the whole. (lseek(2), SEEK_DATA) Moves the file's position. Throws SyscallError.
 */
export function forEachDataRange(
  fd: number,
  offset: number,
  bytes: number,
  visit: (offset: number, bytes: number) => void,
): void {
  const end = offset + bytes;
  for (let at = offset; at < end;) {
    const start = Number(libc.lseek(fd, at, SEEK_DATA));
    if (start < 0) {
      const errno = lastErrno();
      // No data from here on.
      if (errno === ERRNO.ENXIO) return;
      if (errno !== ERRNO.EINVAL) throw new SyscallError('lseek(SEEK_DATA)', errno);
      visit(at, end - at);
      return;
    }
    if (start >= end) return;
    const stop = Math.min(end, checked(Number(libc.lseek(fd, start, SEEK_HOLE)), 'lseek(SEEK_HOLE)'));
    visit(start, stop - start);
    at = stop;
  }
}

const F_DUPFD_CLOEXEC = 1030;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/**
 * Writes up to WRITE_PIECE_BYTES of `bytes` without blocking, although `fd` may be blocking: a pipe that
 * polls writable accepts at least PIPE_BUF bytes. Returns the number of bytes written, 0 if the write would
 * block. Throws SyscallError.
 */
export function writeNonBlocking(fd: number, bytes: Uint8Array): number {
  if (pollFd(fd, POLL.out, 0) <= 0) return 0;
  const piece = bytes.subarray(0, WRITE_PIECE_BYTES);
  const written = Number(libc.write(fd, piece, piece.length));
  if (written >= 0) return written;
  const errno = lastErrno();
  if (errno === ERRNO.EAGAIN || errno === ERRNO.EINTR) return 0;
  throw new SyscallError('write', errno);
}

/** PIPE_BUF of Linux. */
export const WRITE_PIECE_BYTES = 4096;
