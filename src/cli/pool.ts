/** `volt pool`: keeps processes ready for guests. */
import { resolve } from 'node:path';
import { EXIT_CODE, socketDirectory } from '../api/index.ts';
import { findPoolSocket, poolSocketIn } from '../api/pool/place.ts';
import { Pool, type PoolEvent, type PoolStatus } from '../api/pool/pool.ts';
import { readPoolStatus, servePoolStatus } from '../api/pool/status.ts';
import { createLog, type Log } from './log.ts';
import { writeLine, writeStdout } from './output.ts';
import { hostPlaces, POOL_PROCESS } from './pool-choice.ts';

export interface PoolFlags {
  readonly size: number;
  readonly status?: true | undefined;
  readonly json?: true | undefined;
}

const END_SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** Returns the exit code: 0 after a signal to end. */
export async function pool(directory: string | undefined, flags: PoolFlags): Promise<number> {
  const given = directory === undefined ? undefined : poolSocketIn(resolve(directory));
  if (flags.status) return printStatus(given, flags);
  const path = given ?? poolSocketIn(socketDirectory());
  const log = createLog('info');
  const ended = Promise.withResolvers<void>();
  for (const signal of Object.keys(END_SIGNALS)) process.on(signal, () => ended.resolve());
  await using running = new Pool({
    size: flags.size,
    path,
    command: ownCommand(),
    onEvent: (event) => tell(event, log, flags),
  });
  using _status = servePoolStatus(path, () => running.status);
  await Promise.race([running.filled.then(() => tellReady(path, flags, log)), ended.promise]);
  await ended.promise;
  return EXIT_CODE.ok;
}

/** The command that starts an idle process: this program, whether it is compiled or its source. */
function ownCommand(): string[] {
  const source = Bun.main.startsWith('/$bunfs/') ? [] : [Bun.main];
  return [process.execPath, ...source, POOL_PROCESS];
}

async function tellReady(path: string, { size, json }: PoolFlags, log: Log): Promise<void> {
  if (!json) log.info(`${size} processes are ready at ${path}`);
  const address = process.env['NOTIFY_SOCKET'];
  if (address === undefined) return;
  const { connectServiceManager } = await import('../api/service-manager.ts');
  connectServiceManager(address)('READY=1');
}

function tell(event: PoolEvent, log: Log, { json }: PoolFlags): void {
  if (json) {
    writeLine(JSON.stringify(event));
    return;
  }
  if (event.kind === 'refused') log.info(`process ${event.pid} does not stand in for a caller: ${event.why}`);
  if (event.kind === 'lost')
    log.warn(`idle process ${event.pid} ended with exit code ${event.exitCode}; starting another one`);
}

function printStatus(given: string | undefined, { json }: PoolFlags): number {
  const path = given ?? findPoolSocket(hostPlaces()) ?? poolSocketIn(socketDirectory());
  const status = readPoolStatus(path);
  writeStdout(json ? `${JSON.stringify(status, null, 2)}\n` : formatStatus(status));
  return EXIT_CODE.ok;
}

function formatStatus({ pid, socket, size, idle, starting, guests, taken, lost }: PoolStatus): string {
  const list = (pids: readonly number[]) => (pids.length === 0 ? 'none' : pids.join(' '));
  const rows = [
    ['pool', `process ${pid}, ${size} processes, ${socket}`],
    ['idle', list(idle)],
    ['starting', list(starting)],
    ['guests', list(guests)],
    ['so far', `${taken} taken, ${lost} lost`],
  ];
  return rows.map(([name, value]) => `${name!.padEnd(10)}${value}\n`).join('');
}
