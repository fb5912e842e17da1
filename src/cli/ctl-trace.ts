/** `volt ctl PID trace SECONDS FILE`. */
import { connectControl, type ControlResult } from '../api/index.ts';
import { callForFile } from '../api/control/file-of-guest.ts';
import { printable } from './ctl-format.ts';

/** Resolves when the trace is on the disk. Ctrl-C cancels it. */
export async function trace(socket: string, seconds: number, path: string): Promise<ControlResult<'trace'>> {
  using client = await connectControl(socket);
  const abort = new AbortController();
  process.on('SIGINT', () => abort.abort());
  process.on('SIGTERM', () => abort.abort());
  return await callForFile(client, 'trace', { seconds }, path, abort.signal);
}

export function formatTraceResult(path: string, result: ControlResult<'trace'>): string {
  const { seconds, exits, lost, bytes } = result;
  const more = lost > 0 ? `, ${lost} more were lost` : '';
  const file = `${printable(path)} (${Math.ceil(bytes / 1024)} KiB)`;
  return `${exits} exits in ${seconds.toFixed(1)} s traced to ${file}${more}; open it at https://ui.perfetto.dev or with volt report\n`;
}
