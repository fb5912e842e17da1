/** The client's side of `dump`. */
import type { ControlClient } from './client.ts';
import { callForFile } from './file-of-guest.ts';
import type { DumpResult } from './target.ts';

/** Options of `dumpToFile`. */
export interface DumpOptions {
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  /** Aborted: closes the connection, after which the guest goes on. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes a core file of the guest behind `client` to `path`, which is complete or as it was before. Throws VoltError.
 */
export function dumpToFile(
  client: ControlClient,
  path: string,
  { onProgress, signal }: DumpOptions = {},
): Promise<DumpResult> {
  if (onProgress) void watchProgress(client, onProgress);
  return callForFile(client, 'dump', {}, path, signal);
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
