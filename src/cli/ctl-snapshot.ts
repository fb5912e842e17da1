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

export interface SnapshotFlags {
  readonly diff?: true | undefined;
  readonly live?: true | undefined;
  readonly stop?: true | undefined;
}

const BAR_CELLS = 30;
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
    const onProgress = bar && ((progress: SnapshotProgress) => bar.show(progress));
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

/** One line on stderr that is written again and again. */
class ProgressBar {
  #isShown = false;

  show({ step, bytes, total }: SnapshotProgress): void {
    if (step !== 'live' && step !== 'writing') return;
    const share = total > 0 ? Math.min(1, bytes / total) : 1;
    const filled = Math.round(share * BAR_CELLS);
    const cells = '#'.repeat(filled).padEnd(BAR_CELLS);
    const what = step === 'live' ? 'copying memory, the guest runs' : 'writing, the guest is paused';
    const amount = `${Math.round(bytes / MIB)} of ${Math.round(total / MIB)} MiB`;
    writeStderr(`\r[${cells}] ${String(Math.round(share * 100)).padStart(3)} %  ${amount}, ${what}\x1b[K`);
    this.#isShown = true;
  }

  clear(): void {
    if (this.#isShown) writeStderr('\r\x1b[K');
    this.#isShown = false;
  }
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
