/** Errors of the host in the words of Rust's io::Error, which Firecracker's clients see. */
import { constants } from 'node:os';

/** Texts of strerror(3) for what opening files, taps and sockets returns. */
const TEXTS: Readonly<Record<string, string>> = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
  ENXIO: 'No such device or address',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  ENODEV: 'No such device',
  ENOTDIR: 'Not a directory',
  EISDIR: 'Is a directory',
  EINVAL: 'Invalid argument',
  ENFILE: 'Too many open files in system',
  EMFILE: 'Too many open files',
  ETXTBSY: 'Text file busy',
  ENOSPC: 'No space left on device',
  EROFS: 'Read-only file system',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  EADDRINUSE: 'Address already in use',
  ECONNREFUSED: 'Connection refused',
};

const NUMBERS: Readonly<Record<string, number>> = constants.errno;

/** `No such file or directory (os error 2)` */
export function osError(code: string): string {
  return `${TEXTS[code] ?? code} (os error ${NUMBERS[code] ?? 0})`;
}

/** The same for an exception of node:fs or of ffi/; its message if it is another one. */
export function describeOsError(error: unknown): string {
  const { code, message } = error as { readonly code?: string; readonly message?: string };
  return typeof code === 'string' && code in NUMBERS ? osError(code) : String(message ?? error);
}
