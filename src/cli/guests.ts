/** `volt create`, `start`, `stop`, `restart` and `rm`: guests by name. */
import { rmSync } from 'node:fs';
import { basename } from 'node:path';
import { EXIT_CODE, VoltError } from '../api/index.ts';
import { findDefinition, needDefinition, writeDefinition } from '../api/guests/definitions.ts';
import { checkGuestName } from '../api/guests/guest-name.ts';
import { endGuest, findRunning } from '../api/guests/running-guest.ts';
import { callSystemctl, isServedBySystemd } from '../api/guests/service.ts';
import { logPath, startGuest } from '../api/guests/start-guest.ts';
import { guestSocket } from './find-guest.ts';
import { createLog } from './log.ts';
import { toConfig } from './machine-options.ts';
import { writeStdout } from './output.ts';
import { ownCommand } from './own-command.ts';

export interface CreateFlags {
  readonly name?: string | undefined;
  readonly replace?: true | undefined;
}

export interface StopFlags {
  readonly now?: true | undefined;
  /** Seconds. */
  readonly timeout: number;
}

export interface RemoveFlags {
  readonly force?: true | undefined;
}

/** Checks a configuration file and keeps it under a name; its paths no longer depend on this folder. */
export function create(file: string, flags: CreateFlags): number {
  const name = checkGuestName(flags.name ?? basename(file).replace(/\.json$/, ''));
  const log = createLog('warn');
  const config = toConfig(
    { config: file, acpi: true, mptable: true, logLevel: 'warn', logFormat: 'text' },
    log,
  );
  const path = writeDefinition(name, config.input, flags.replace ?? false);
  writeStdout(`${path}\n`);
  return EXIT_CODE.ok;
}

export async function start(name: string): Promise<number> {
  await startGuest(checkGuestName(name), ownCommand());
  return EXIT_CODE.ok;
}

export async function stop(guest: string, flags: StopFlags): Promise<number> {
  await end(guest, flags);
  return EXIT_CODE.ok;
}

export async function restart(name: string, flags: StopFlags): Promise<number> {
  const definition = needDefinition('restart', checkGuestName(name));
  if (isServedBySystemd(definition)) callSystemctl('restart', name);
  else {
    if (findRunning(name)) await end(name, flags);
    await startGuest(name, ownCommand());
  }
  return EXIT_CODE.ok;
}

/** Removes the definition and the log. Disks are the user's and stay. */
export async function remove(name: string, { force }: RemoveFlags): Promise<number> {
  const running = findRunning(checkGuestName(name));
  if (running && !force) {
    throw new VoltError(
      'usage',
      `Cannot remove ${name}: process ${running.pid} runs it; stop it, or use --force`,
    );
  }
  const definition = findDefinition(name);
  if (!definition && !running) needDefinition('remove', name);
  if (running) await end(name, { now: true, timeout: FORCED_SECONDS });
  if (definition) {
    if (isServedBySystemd(definition)) callSystemctl('disable', name);
    removeFile(name, definition.path);
  }
  for (const path of [logPath(name), `${logPath(name)}.old`]) removeFile(name, path);
  return EXIT_CODE.ok;
}

const FORCED_SECONDS = 10;

function removeFile(name: string, path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw new VoltError(
      'host',
      `Cannot remove ${name}: ${(error as Error).message}; remove it as its owner`,
      {
        cause: error,
      },
    );
  }
}

/** Ends a guest by its name, process id or socket. */
async function end(guest: string, { now = false, timeout }: { now?: boolean | undefined; timeout: number }) {
  const path = guestSocket(guest);
  const named = findRunning(guest);
  const definition = named && findDefinition(named.name!);
  if (named?.isUnit && definition && isServedBySystemd(definition)) return callSystemctl('stop', guest);
  await endGuest(path, guest, { now: now === true, timeoutMs: timeout * 1000 });
}
