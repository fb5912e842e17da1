/** What every part of a release is made from: version, moment and executable, the same for the same commit. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

export const root = resolve(import.meta.dir, '../..');

export interface ReleaseContext {
  readonly version: string;
  /** Seconds since 1970: SOURCE_DATE_EPOCH, or when the last commit was made. */
  readonly epoch: number;
  /** The built executable. */
  readonly binary: string;
}

export function releaseContext(binary: string): ReleaseContext {
  const { version } = JSON.parse(readFileSync(resolve(root, 'package.json'), 'utf8')) as { version: string };
  return { version, epoch: sourceDateEpoch(), binary };
}

function sourceDateEpoch(): number {
  const given = process.env['SOURCE_DATE_EPOCH'];
  const text = given ?? runText(['git', '-C', root, 'log', '-1', '--format=%ct']).trim();
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new Error(`Cannot date the release: SOURCE_DATE_EPOCH is "${text}" (expected seconds since 1970)`);
}

/** Runs a program to its end and returns its output. Throws with what it said when it fails. */
export function runText(argv: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const ran = Bun.spawnSync([...argv], {
    env: { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC', ...env },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  if (ran.exitCode === 0) return ran.stdout.toString();
  throw new Error(`Cannot run ${argv.join(' ')}: exit code ${ran.exitCode}\n${ran.stdout}${ran.stderr}`);
}
