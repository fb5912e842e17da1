/** Calls whose result the guest's process writes to a file that this client opens: it opens none itself, in its sandbox. */
import { constants, fsync, openSync, renameSync, unlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { OwnedFd } from '../../ffi/file.ts';
import { randomBytes } from '../../ffi/random.ts';
import { VoltError } from '../../volt-error.ts';
import type { ControlClient } from './client.ts';
import type { ParamsOf } from './protocol.ts';
import type { ResultOf } from './results.ts';

/** Memory holds whatever the guest does: passwords, keys, files. */
const PRIVATE_FILE = 0o600;
const NEW_FILE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** The largest delay of setTimeout. A guest's process that ends closes the connection. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;
const syncFile = promisify(fsync);

/**
 * Makes the call, whose result goes to `path`. It is written beside it, and replaces a file there when it is complete and on
 * the disk. `signal`, aborted, closes the connection. Throws VoltError, with nothing left behind.
 */
export async function callForFile<M extends 'dump' | 'trace'>(
  client: ControlClient,
  method: M,
  params: ParamsOf<M>,
  path: string,
  signal?: AbortSignal,
): Promise<ResultOf<M>> {
  const temporary = `${path}.tmp-${Buffer.from(randomBytes(8)).toString('hex')}`;
  using file = create(temporary, path);
  const cancel = () => client.close();
  signal?.addEventListener('abort', cancel);
  try {
    return await client.callWithFiles(
      method,
      params,
      async (what) => {
        if (what !== 'commit') return [file.fd];
        await syncFile(file.fd);
        renameSync(temporary, path);
        return [];
      },
      NO_TIMEOUT_MS,
    );
  } catch (error) {
    removeIfThere(temporary);
    if (!signal?.aborted) throw error;
    throw new VoltError('host', `Cannot ${method} the guest: cancelled; the guest goes on`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

function create(temporary: string, path: string): OwnedFd {
  try {
    return new OwnedFd(openSync(temporary, NEW_FILE, PRIVATE_FILE));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VoltError(
      'host',
      `Cannot write ${path}: ${code}; name a file in a directory that you may write to`,
      { cause: error },
    );
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was renamed already.
  }
}
