/** `volt web`: serves the page until a signal ends it. */
import { readFileSync } from 'node:fs';
import { EXIT_CODE, VoltError } from '../api/index.ts';
import { checkExposure, parseListen } from '../api/web/listen-address.ts';
import { openWeb } from '../api/web/server.ts';
import { createLog } from './log.ts';
import { writeStdout } from './output.ts';
import { ownCommand } from './own-command.ts';

export interface WebFlags {
  readonly listen: string;
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  readonly passwordFile?: string | undefined;
}

const LEAST_PASSWORD = 12;

export async function web(flags: WebFlags): Promise<number> {
  const { tlsCert, tlsKey, passwordFile } = flags;
  const address = parseListen(flags.listen);
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new VoltError(
      'usage',
      'Cannot use --tls-cert and --tls-key apart: TLS needs both; add the other one',
    );
  checkExposure(address, tlsCert !== undefined, passwordFile !== undefined);
  const tls =
    tlsCert === undefined
      ? undefined
      : { cert: readText('--tls-cert', tlsCert), key: readText('--tls-key', tlsKey!) };
  const password = passwordFile === undefined ? undefined : readPassword(passwordFile);
  const ended = Promise.withResolvers<void>();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => ended.resolve());
  using server = await openWeb({ address, tls, password, ownCommand: ownCommand() });
  if (server.path !== undefined) createLog('warn').always(`listening at ${server.path}`);
  writeStdout(`${server.url}\n`);
  await ended.promise;
  return EXIT_CODE.ok;
}

function readPassword(path: string): string {
  const password = readText('--password-file', path).replace(/\r?\n$/, '');
  if (password.length >= LEAST_PASSWORD) return password;
  throw new VoltError(
    'usage',
    `Cannot use --password-file ${path}: its password has ${password.length} characters (expected at least ${LEAST_PASSWORD})`,
  );
}

function readText(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new VoltError(
      'usage',
      `Cannot use ${flag} ${path}: ${(error as Error).message}; use a file that you may read`,
      {
        cause: error,
      },
    );
  }
}
