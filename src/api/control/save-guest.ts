/** The client's side of `snapshot`: opens the files for the guest's process, and puts them in their place. */
import { startWriteback } from '../../ffi/writeback.ts';
import { SnapshotDirectory, newSnapshotId } from '../../vmm/state/snapshot-directory.ts';
import type { SnapshotProgress } from '../../vmm/state/snapshot.ts';
import { VoltError } from '../../volt-error.ts';
import type { ControlClient } from './client.ts';
import type { SnapshotResult } from './target.ts';

/** Options of `saveGuest`. */
export interface SaveOptions {
  readonly diff?: boolean | undefined;
  readonly live?: boolean | undefined;
  readonly stop?: boolean | undefined;
  readonly onProgress?: ((progress: SnapshotProgress) => void) | undefined;
  /** Aborted: closes the connection, after which the guest goes on. Without effect once files are put in place. */
  readonly signal?: AbortSignal | undefined;
}

/** The largest delay of setTimeout. A guest's process that ends closes the connection. */
const NO_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Saves the guest behind `client` to `directory`, which is created if it does not exist. Throws VoltError,
 * with an earlier snapshot there as it was.
 */
export async function saveGuest(
  client: ControlClient,
  directory: string,
  { diff, live, stop, onProgress, signal }: SaveOptions = {},
): Promise<SnapshotResult> {
  using target = new SnapshotDirectory(directory);
  const id = newSnapshotId();
  const base = diff ? target.current?.id : undefined;
  let committing: Promise<void> | undefined;
  let writeback: Disposable | undefined;
  const cancel = () => {
    if (!committing) client.close();
  };
  signal?.addEventListener('abort', cancel);
  if (onProgress) void watchProgress(client, id, onProgress);
  try {
    return await client.callWithFiles(
      'snapshot',
      {
        ...{ id, directory, live: live ?? false, stop: stop ?? false },
        ...(base === undefined ? {} : { base }),
      },
      async (what) => {
        if (what === 'commit') {
          writeback?.[Symbol.dispose]();
          await (committing = target.commit());
          return [];
        }
        const { memory, state } = target.begin(id);
        writeback = startWriteback(memory.fd);
        return [memory.fd, state.fd];
      },
      NO_TIMEOUT_MS,
    );
  } catch (error) {
    // The guest's process may have ended while this one put the files in their place.
    await committing?.catch(() => {});
    if (!signal?.aborted) throw error;
    throw new VoltError('host', 'Cannot save the guest: the snapshot was cancelled; the guest goes on', {
      cause: error,
    });
  } finally {
    writeback?.[Symbol.dispose]();
    signal?.removeEventListener('abort', cancel);
  }
}

async function watchProgress(
  client: ControlClient,
  id: string,
  onProgress: (progress: SnapshotProgress) => void,
): Promise<void> {
  try {
    for await (const event of client.events())
      if (event.kind === 'snapshot' && event.id === id) onProgress(event);
  } catch {
    // The call itself says what is wrong with the connection.
  }
}
