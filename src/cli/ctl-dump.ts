/** `volt ctl PID dump FILE`: progress on a terminal, and what Ctrl-C does. */
import { connectControl, stderrIsTerminal, VoltError, type ControlResult } from '../api/index.ts';
import { dumpToFile } from '../api/control/dump-guest.ts';
import { printable } from './ctl-format.ts';
import { writeStderr } from './output.ts';
import { ProgressBar } from './progress-bar.ts';

const MIB = 1024 * 1024;
/** That of SIGINT and SIGTERM. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

/** Resolves when the core file is on the disk. Ctrl-C cancels it: the guest goes on, a file that was there stays. */
export async function dump(socket: string, path: string): Promise<ControlResult<'dump'>> {
  const abort = new AbortController();
  let exitCode = 0;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      exitCode = EXIT_CODES[signal];
      abort.abort();
    });
  }
  const bar = stderrIsTerminal() ? new ProgressBar() : undefined;
  try {
    using client = await connectControl(socket);
    const onProgress =
      bar && ((bytes: number, total: number) => bar.show(bytes, total, 'the guest is paused'));
    return await dumpToFile(client, path, { onProgress, signal: abort.signal });
  } catch (error) {
    if (exitCode === 0 || !(error instanceof VoltError)) throw error;
    bar?.clear();
    writeStderr(`volt: ${error.message}\n`);
    return process.exit(exitCode);
  } finally {
    bar?.clear();
  }
}

/** What is in the file, and what it cost the guest. */
export function formatDump(path: string, result: ControlResult<'dump'>): string {
  const { memoryBytes, writtenBytes, segments, truncated, vmcoreinfo, pausedMs } = result;
  const mib = (bytes: number) => Math.round(bytes / MIB);
  const note = vmcoreinfo ? 'with the VMCOREINFO of Linux' : 'without a VMCOREINFO';
  const more = truncated ? ', which are not all that the page tables map' : '';
  return [
    `dumped to ${printable(path)}: ${segments} ${segments === 1 ? 'segment' : 'segments'}${more}, ${note}\n`,
    `${mib(writtenBytes)} of ${mib(memoryBytes)} MiB written; `,
    `the guest was paused for ${pausedMs.toFixed(pausedMs < 10 ? 1 : 0)} ms\n`,
  ].join('');
}
