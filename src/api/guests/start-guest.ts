/** Starts a defined guest: by systemd, or as a process of its own that outlives this one. */
import { closeSync, mkdirSync, openSync, readSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { VoltError } from '../../volt-error.ts';
import { callOnce } from '../control/client.ts';
import { nameInUse } from './claim-name.ts';
import { needDefinition, type Definition } from './definitions.ts';
import { logFolder } from './places.ts';
import { findRunning } from './running-guest.ts';
import { callSystemctl, isServedBySystemd } from './service.ts';

/** A longer log is put aside when the guest starts: NAME.log.old. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const POLL_MS = 20;
const STATUS_TIMEOUT_MS = 1000;

/** Path of the log of a guest that was started without systemd. */
export function logPath(name: string): string {
  return join(logFolder(), `${name}.log`);
}

/** Returns when the guest runs. Throws VoltError if it runs already or does not come up. */
export async function startGuest(name: string, command: readonly string[]): Promise<void> {
  const definition = needDefinition('start', name);
  const running = findRunning(name);
  if (running) throw nameInUse(name, running.pid);
  if (isServedBySystemd(definition)) callSystemctl('start', name);
  else await startProcess(definition, command);
}

async function startProcess({ name, path }: Definition, command: readonly string[]): Promise<void> {
  const log = openLog(name);
  const before = statSync(logPath(name)).size;
  const { NOTIFY_SOCKET: _, JOURNAL_STREAM: __, ...env } = process.env;
  try {
    const child = Bun.spawn([...command, 'run', '--name', name, '--config', path], {
      stdin: 'ignore',
      stdout: log,
      stderr: log,
      // A session of its own: the end of this terminal does not concern it.
      detached: true,
      cwd: '/',
      env,
    });
    child.unref();
    while (child.exitCode === null) {
      if (await answers(name, child.pid)) return;
      await Bun.sleep(POLL_MS);
    }
    // A guest that ends itself at once with success has run.
    if (child.exitCode !== 0) throw didNotStart(name, before, child.exitCode);
  } finally {
    closeSync(log);
  }
}

async function answers(name: string, pid: number): Promise<boolean> {
  const guest = findRunning(name);
  if (guest?.pid !== pid) return false;
  return callOnce(guest.path, 'status', {}, STATUS_TIMEOUT_MS).then(
    () => true,
    () => false,
  );
}

function openLog(name: string): number {
  const path = logPath(name);
  try {
    mkdirSync(logFolder(), { recursive: true, mode: 0o700 });
    const bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    if (bytes > MAX_LOG_BYTES) renameSync(path, `${path}.old`);
    return openSync(path, 'a', 0o600);
  } catch (error) {
    throw new VoltError('host', `Cannot start ${name}: ${(error as Error).message}; make room for its log`, {
      cause: error,
    });
  }
}

/** Says what the guest's process said last. */
function didNotStart(name: string, from: number, exitCode: number): VoltError {
  const lines = readFrom(logPath(name), from)
    .split(/[\r\n]+/)
    .filter((line) => line.startsWith('volt: '));
  const why = lines.at(-1)?.slice('volt: '.length) ?? `it ended with exit code ${exitCode}`;
  const line = why.startsWith('Cannot ') ? why : `Cannot start ${name}: ${why}; see volt logs ${name}`;
  return new VoltError(exitCode === 2 ? 'config' : 'host', line);
}

const MOST_READ = 64 * 1024;

function readFrom(path: string, offset: number): string {
  const fd = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(MOST_READ);
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, MOST_READ, offset));
  } finally {
    closeSync(fd);
  }
}
