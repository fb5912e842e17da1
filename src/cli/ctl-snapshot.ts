/** `volt ctl PID snapshot DIR`: progress on a terminal, and what Ctrl-C does. */
import {
  connectControl,
  EXIT_CODE,
  stderrIsTerminal,
  VoltError,
  type ControlResult,
  type SnapshotProgress,
} from '../api/index.ts';
import { saveGuest } from '../api/control/save-guest.ts';
import { printable } from './ctl-format.ts';
import { writeStderr } from './output.ts';
import { ProgressBar } from './progress-bar.ts';

export interface SnapshotFlags {
  readonly diff?: true | undefined;
  readonly live?: true | undefined;
  readonly stop?: true | undefined;
}

const MIB = 1024 * 1024;
/** That of SIGINT and SIGTERM. */
const EXIT_INTERRUPTED = 130;
const EXIT_TERMINATED = 143;

/** Resolves when the snapshot is on the disk. Ctrl-C cancels it: the guest goes on, the last snapshot stays. */
export async function snapshot(
  socket: string,
  directory: string,
  flags: SnapshotFlags,
): Promise<ControlResult<'snapshot'>> {
  const abort = new AbortController();
  let exitCode: number = EXIT_CODE.ok;
  const cancel = (code: number) => () => {
    exitCode = code;
    abort.abort();
  };
  process.on('SIGINT', cancel(EXIT_INTERRUPTED));
  process.on('SIGTERM', cancel(EXIT_TERMINATED));
  const bar = stderrIsTerminal() ? new ProgressBar() : undefined;
  try {
    using client = await connectControl(socket);
    const onProgress = bar && ((progress: SnapshotProgress) => showProgress(bar, progress));
    return await saveGuest(client, directory, { ...flags, onProgress, signal: abort.signal });
  } catch (error) {
    if (exitCode === EXIT_CODE.ok || !(error instanceof VoltError)) throw error;
    bar?.clear();
    writeStderr(`volt: ${error.message}\n`);
    return process.exit(exitCode);
  } finally {
    bar?.clear();
  }
}

function showProgress(bar: ProgressBar, { step, bytes, total }: SnapshotProgress): void {
  if (step === 'live') bar.show(bytes, total, 'copying memory, the guest runs');
  else if (step === 'writing') bar.show(bytes, total, 'writing, the guest is paused');
}

/** Two lines: what was saved, and what it cost the guest. */
export function formatSnapshot(directory: string, result: ControlResult<'snapshot'>): string {
  const { id, memoryBytes, writtenBytes, pausedMs, totalMs, liveRounds } = result;
  const seconds = totalMs / 1000;
  const rounds = liveRounds > 0 ? ` after ${liveRounds} copies of memory while it ran` : '';
  return [
    `saved to ${printable(directory)}: snapshot ${printable(id)}\n`,
    `${Math.round(writtenBytes / MIB)} of ${Math.round(memoryBytes / MIB)} MiB written in ${seconds.toFixed(2)} s; `,
    `the guest was paused for ${pausedMs.toFixed(pausedMs < 10 ? 1 : 0)} ms${rounds}\n`,
  ].join('');
}
