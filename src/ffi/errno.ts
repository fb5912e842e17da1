/**
 * errno numbers of x86-64 Linux that Volt's system calls can return, and the error that carries one.
 * (asm-generic/errno-base.h, asm-generic/errno.h)
 */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  ENOSYS: 38,
  ELOOP: 40,
  EOVERFLOW: 75,
  EPROTOTYPE: 91,
  EOPNOTSUPP: 95,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ECONNREFUSED: 111,
  EDQUOT: 122,
} as const;

export type ErrnoCode = keyof typeof ERRNO;

const CODE_BY_NUMBER = new Map<number, ErrnoCode>(
  (Object.keys(ERRNO) as ErrnoCode[]).map((code) => [ERRNO[code], code]),
);

const MEANING: Partial<Record<ErrnoCode, string>> = {
  EPERM: 'not permitted',
  ENOENT: 'no such file',
  EINTR: 'interrupted',
  EIO: 'input/output error',
  ENXIO: 'no such device',
  E2BIG: 'list too long',
  EBADF: 'bad file descriptor',
  EAGAIN: 'try again',
  ENOMEM: 'out of memory',
  EACCES: 'permission denied',
  EFAULT: 'bad address',
  EBUSY: 'busy',
  EEXIST: 'already exists',
  ENODEV: 'no such device',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EINVAL: 'invalid argument',
  ENFILE: 'the file table of the host is full',
  EMFILE: 'too many open files',
  ENOTTY: 'not supported by this file',
  ENOSPC: 'no space left on the device',
  EPIPE: 'the other end is closed',
  ENOSYS: 'not supported by this kernel',
};

/** `ENOENT` for 2; `errno 133` for a number that is not in the table. */
export function errnoName(errno: number): string {
  return CODE_BY_NUMBER.get(errno) ?? `errno ${errno}`;
}

/** A failed system call: its name, its errno and, where known, what the user can do. */
export class SyscallError extends Error {
  readonly call: string;
  readonly errno: number;
  readonly code: string;

  constructor(call: string, errno: number, advice?: string) {
    const code = errnoName(errno);
    const meaning = MEANING[code as ErrnoCode];
    super(`${call} failed: ${code}${meaning ? ` (${meaning})` : ''}${advice ? `; ${advice}` : ''}`);
    this.name = 'SyscallError';
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}
