/** What a guest has printed: systemd's journal, the log of a started process, or the console's history. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { VoltError } from '../../volt-error.ts';
import { connectControl } from '../control/client.ts';
import { findDefinition } from './definitions.ts';
import { findRunning } from './running-guest.ts';
import { isServedBySystemd, unitOf } from './service.ts';
import { logPath } from './start-guest.ts';

export interface LogOptions {
  readonly follow: boolean;
  /** Only the last lines; undefined: all. */
  readonly lines: number | undefined;
  /** Takes output; false: nobody reads it any more. */
  readonly show: (bytes: Uint8Array) => boolean;
}

const PIECE_BYTES = 64 * 1024;
const POLL_MS = 100;
const NEWLINE = 0x0a;

/** Throws VoltError 'usage' if there is nothing to show. */
export async function showLog(name: string, options: LogOptions): Promise<void> {
  const definition = findDefinition(name);
  const running = findRunning(name);
  if (running?.isUnit || (!running && definition && isServedBySystemd(definition)))
    return showJournal(name, options);
  // A guest that volt run started in a terminal has printed there.
  if (running && !(await isLogged(running.pid, name))) return showHistory(running.path, options);
  if (existsSync(logPath(name))) return showFile(name, options);
  throw new VoltError(
    'usage',
    `Cannot show the log of ${name}: ${definition ? 'it has not run yet' : 'there is no such guest'}; volt ps -a lists guests`,
  );
}

async function showJournal(name: string, { follow, lines }: LogOptions): Promise<void> {
  const journal = Bun.spawn(
    [
      'journalctl',
      '--unit',
      unitOf(name),
      '--output=cat',
      ...(lines === undefined ? [] : [`--lines=${lines}`]),
      ...(follow ? ['--follow'] : []),
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  await journal.exited;
}

/** Whether the process's stdout is the log of this name. */
async function isLogged(pid: number, name: string): Promise<boolean> {
  try {
    const [stdout, log] = [statSync(`/proc/${pid}/fd/1`), statSync(logPath(name))];
    return stdout.dev === log.dev && stdout.ino === log.ino;
  } catch {
    return false;
  }
}

async function showFile(name: string, { follow, lines, show }: LogOptions): Promise<void> {
  const fd = openSync(logPath(name), 'r');
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let at = lines === undefined ? 0 : startOfLines(fd, lines);
    for (let isComplete = false; ;) {
      const count = readSync(fd, piece, 0, PIECE_BYTES, at);
      if (count > 0 && !show(piece.subarray(0, count))) return;
      at += count;
      if (count > 0) continue;
      if (isComplete) return;
      // What it printed before its end is read once more.
      isComplete = !follow || !findRunning(name);
      if (!isComplete) await Bun.sleep(POLL_MS);
    }
  } finally {
    closeSync(fd);
  }
}

/** Offset of the last `lines` lines. */
function startOfLines(fd: number, lines: number): number {
  const piece = Buffer.alloc(PIECE_BYTES);
  let end = endOf(fd);
  if (lines === 0) return end;
  let found = 0;
  for (let last = true; end > 0; last = false) {
    const start = Math.max(0, end - PIECE_BYTES);
    const count = readSync(fd, piece, 0, end - start, start);
    for (let i = count - 1; i >= 0; i--) {
      // The newline of the last line ends it.
      if (piece[i] !== NEWLINE || (last && i === count - 1)) continue;
      if (++found === lines) return start + i + 1;
    }
    end = start;
  }
  return 0;
}

function endOf(fd: number): number {
  return statSync(`/proc/self/fd/${fd}`).size;
}

async function showHistory(path: string, { follow, lines, show }: LogOptions): Promise<void> {
  using client = await connectControl(path);
  const first = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  let isFirst = true;
  await client.attachConsole({ history: true }, (message) => {
    if (!('data' in message)) return;
    const bytes = Buffer.from(message.data, 'base64');
    if (!show(isFirst && lines !== undefined ? lastLines(bytes, lines) : bytes)) gone.resolve();
    isFirst = false;
    first.resolve();
  });
  await first.promise;
  if (!follow) return;
  const ended = (async () => {
    for await (const event of client.events()) void event;
  })();
  await Promise.race([ended, gone.promise]);
}

function lastLines(bytes: Buffer, lines: number): Buffer {
  if (lines === 0) return bytes.subarray(bytes.length);
  let at = bytes.length - 1;
  for (let i = 0; i < lines && at > 0; i++) at = bytes.lastIndexOf(NEWLINE, at - 1);
  return bytes.subarray(at + 1);
}
