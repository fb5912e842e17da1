/** Opening a file that output is appended to, such as a console's, so that no write ever blocks. */
import { lstatSync, statSync } from 'node:fs';
import { VoltError } from '../volt-error.ts';
import { SyscallError } from './errno.ts';
import { OPEN, openFile, type OwnedFd } from './file.ts';

/**
 * Opens or creates `path` for appending, with O_NONBLOCK. `name` is the flag or key that error messages put
 * before the path. Throws VoltError 'host'.
 */
export function openForAppend(name: string, path: string): OwnedFd {
  try {
    return openFile(path, OPEN.writeOnly | OPEN.create | OPEN.append | OPEN.nonBlocking, undefined, 0o644);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new VoltError('host', `Cannot use ${name}${path}: ${explain(path, error)}`, { cause: error });
  }
}

function explain(path: string, error: SyscallError): string {
  switch (error.code) {
    case 'EISDIR':
      return 'it is a directory (expected a file)';
    case 'ENOENT':
      return 'there is no such directory (expected a file in a directory that exists)';
    case 'EACCES':
    case 'EROFS':
      return 'permission denied (expected a file that you may write)';
    case 'ENXIO':
      return explainNoDevice(path);
    default:
      return `${error.message} (expected a file that you may write)`;
  }
}

/** ENXIO: a FIFO without a reader, a socket, or a device node without a device. (open(2)) */
function explainNoDevice(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false }) ?? lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isFIFO()) return 'nobody reads this FIFO; start its reader first';
  if (stat?.isSocket()) return 'it is a socket (expected a file)';
  return 'there is no such device (expected a file)';
}
