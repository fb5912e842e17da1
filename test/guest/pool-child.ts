/** `volt pool` as a child, and guests of `volt` that it runs. */
import { dirname } from 'node:path';
import type { PoolEvent, PoolStatus } from '../../src/api/pool/pool.ts';
import { runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';

export class PoolChild implements AsyncDisposable {
  readonly events: PoolEvent[] = [];
  stderr = '';
  readonly #folder = new TemporaryFolder();
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  readonly #reading: Promise<unknown>;
  readonly #guests: Bun.Subprocess[] = [];

  constructor(size: number) {
    this.#child = Bun.spawn([VOLT, 'pool', this.directory, '--size', String(size), '--json'], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    this.#reading = Promise.all([this.#readEvents(), this.#readErrors()]);
  }

  get directory(): string {
    return this.#folder.path;
  }

  at(name: string): string {
    return this.#folder.at(name);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get socket(): string {
    return this.at('pool.sock');
  }

  get exited(): Promise<number> {
    return this.#reading.then(() => this.#child.exited);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  count(kind: PoolEvent['kind']): number {
    return this.events.filter((event) => event.kind === kind).length;
  }

  /** Once `count` processes have become ready since the start. */
  async ready(count: number): Promise<this> {
    await waitUntil('ready processes', () => this.count('ready') >= count || this.#child.exitCode !== null);
    return this;
  }

  async status(): Promise<PoolStatus> {
    const { stdout } = await runVolt(['pool', this.directory, '--status', '--json']);
    return JSON.parse(stdout) as PoolStatus;
  }

  /** `volt` with these words, in a process of the pool, started by `prefix`. */
  start(
    words: readonly string[],
    { stdin = 'ignore' as 'ignore' | 'pipe' | Uint8Array, prefix = [] as string[] } = {},
  ) {
    const child = Bun.spawn([...prefix, VOLT, ...words, '--pool', this.directory], {
      ...{ stdin, stdout: 'pipe', stderr: 'pipe', timeout: 90_000, killSignal: 'SIGKILL' },
      cwd: this.directory,
    });
    this.#guests.push(child);
    return child as Bun.Subprocess<'pipe', 'pipe', 'pipe'>;
  }

  async run(words: readonly string[], options: Parameters<PoolChild['start']>[1] = {}) {
    const child = this.start(words, options);
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    return { stdout, stderr, exitCode: await child.exited };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const guest of this.#guests) guest.kill('SIGKILL');
    this.#child.kill('SIGTERM');
    await this.exited;
    this.#folder[Symbol.dispose]();
  }

  async #readEvents(): Promise<void> {
    let text = '';
    for await (const bytes of this.#child.stdout) {
      text += Buffer.from(bytes).toString('utf8');
      const lines = text.split('\n');
      text = lines.pop()!;
      this.events.push(...lines.map((line) => JSON.parse(line) as PoolEvent));
    }
  }

  async #readErrors(): Promise<void> {
    for await (const bytes of this.#child.stderr) this.stderr += Buffer.from(bytes).toString('utf8');
  }
}

/** The folder of this checkout, for scripts that others run. */
export const ROOT = dirname(dirname(import.meta.dir));

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
