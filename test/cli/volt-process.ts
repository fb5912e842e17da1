/** Runs the compiled `volt` as a user would, and gives each test a folder of its own. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buildVolt } from '../../scripts/build.ts';

export const VOLT = process.env['VOLT_BINARY'] ?? builtVolt();

/** ./volt, built now if it is not there yet: after a plain `npm ci`. `npm test` always builds it. */
function builtVolt(): string {
  const path = resolve(import.meta.dir, '../../volt');
  if (!existsSync(path)) buildVolt(path);
  return path;
}

/** Whether this process may use /dev/kvm; tests that need it are skipped by name otherwise. */
export const kvmOpens = opensForWriting('/dev/kvm');

/** A bound for hangs only: far above what any run takes on a busy machine. */
const HANG_MS = 90_000;

export interface VoltRun {
  readonly stdout: string;
  /** The same as it came, for guests that print raw bytes. */
  readonly bytes: Uint8Array;
  readonly stderr: string;
  readonly exitCode: number;
}

export interface RunOptions {
  /** What volt reads on stdin; nothing, as from /dev/null, by default. */
  readonly stdin?: Uint8Array;
  /** A command that runs volt, `unshare …` say. */
  readonly prefix?: readonly string[];
  /** Kills volt after this long. */
  readonly hangMs?: number;
}

/** `flags`, and of the defaults those that are not among them: Volt takes no flag twice. */
export function withDefaults(
  defaults: Readonly<Record<string, string>>,
  flags: readonly string[],
): readonly string[] {
  const isGiven = (name: string) => flags.some((flag) => flag === name || flag.startsWith(`${name}=`));
  return [
    ...Object.entries(defaults).flatMap(([name, value]) => (isGiven(name) ? [] : [name, value])),
    ...flags,
  ];
}

/** Runs `volt` with these arguments to its end. */
export async function runVolt(args: readonly string[], options: RunOptions = {}): Promise<VoltRun> {
  await using child = Bun.spawn([...(options.prefix ?? []), VOLT, ...args], {
    stdin: options.stdin ?? 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: options.hangMs ?? HANG_MS,
    killSignal: 'SIGKILL',
  });
  const [bytes, stderr] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
  ]);
  return { stdout: new TextDecoder().decode(bytes), bytes, stderr, exitCode: await child.exited };
}

/** A folder that is removed with everything in it at the end of the block that `using` it. */
export class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'volt-test-'));

  /** The path of `name` in this folder. */
  at(name: string): string {
    return join(this.path, name);
  }

  /** Writes a file and returns its path. */
  async write(name: string, content: string | Uint8Array): Promise<string> {
    await Bun.write(this.at(name), content);
    return this.at(name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

function opensForWriting(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'));
    return true;
  } catch {
    return false;
  }
}
