/** The client's side of `dump`: opens the core file for the guest's process, and puts it in its place. */
import { constants, fsync, openSync, renameSync, unlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { OwnedFd } from '../../ffi/file.ts';
import { randomBytes } from '../../ffi/random.ts';
import { VoltError } from '../../volt-error.ts';
import type { ControlClient } from './client.ts';
import type { DumpResult } from './target.ts';

/** Memory holds whatever the guest does: passwords, keys, files. */
const PRIVATE_FILE = 0o600;
const NEW_FILE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** The largest delay of setTimeout. A guest's process that ends closes the connection. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;
const syncFile = promisify(fsync);

/** Options of `dumpToFile`. */
export interface DumpOptions {
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  /** Aborted: closes the connection, after which the guest goes on. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a core file of the guest behind `client` to `path`. It is written beside it, and replaces a file there when it is
 * complete and on the disk. Throws VoltError, with nothing left behind.
 */
export async function dumpToFile(
  client: ControlClient,
  path: string,
  { onProgress, signal }: DumpOptions = {},
): Promise<DumpResult> {
  const temporary = `${path}.tmp-${Buffer.from(randomBytes(8)).toString('hex')}`;
  using file = create(temporary, path);
  const cancel = () => client.close();
  signal?.addEventListener('abort', cancel);
  if (onProgress) void watchProgress(client, onProgress);
  try {
    return await client.callWithFiles(
      'dump',
      {},
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
    throw new VoltError('host', 'Cannot dump the guest: the dump was cancelled; the guest goes on', {
      cause: error,
    });
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

function create(temporary: string, path: string): OwnedFd & Disposable {
  try {
    return new OwnedFd(openSync(temporary, NEW_FILE, PRIVATE_FILE));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new VoltError(
      'host',
      `Cannot write the core file ${path}: ${code}; name a file in a directory that you may write to`,
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

async function watchProgress(
  client: ControlClient,
  onProgress: (bytes: number, total: number) => void,
): Promise<void> {
  try {
    for await (const event of client.events())
      if (event.kind === 'dump') onProgress(event.bytes, event.total);
  } catch {
    // The call itself says what is wrong with the connection.
  }
}
