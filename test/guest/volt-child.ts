/** `volt run` as a child with the embedded kernel beating, for tests that look at it from outside. */
import { kvmOpens, runVolt, TemporaryFolder, VOLT, withDefaults, type VoltRun } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';

export { kvmOpens };

export class BeatingVolt implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly socket = this.folder.at('control.sock');
  stdout = '';
  stderr = '';
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  readonly #reading: Promise<unknown>;

  /** One CPU, unless `flags` say otherwise. */
  constructor(
    flags: readonly string[] = [],
    env: Record<string, string> = {},
    prefix: readonly string[] = [],
  ) {
    const small = { '--cpus': '1', '--memory': '64M', '--cmdline': 'loop', '--control': this.socket };
    this.#child = Bun.spawn([...prefix, VOLT, 'run', ...withDefaults(small, flags)], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
      env: { ...process.env, ...env },
    });
    this.#reading = Promise.all([
      this.#read(this.#child.stdout, (text) => (this.stdout += text)),
      this.#read(this.#child.stderr, (text) => (this.stderr += text)),
    ]);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Its exit code, when all that it said has been read. */
  get exited(): Promise<number> {
    return this.#reading.then(() => this.#child.exited);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Once the guest beats, so that everything before it is over. */
  async beating(): Promise<this> {
    await waitUntil(
      'the first heartbeat',
      () => this.stdout.includes('heartbeat') || this.#child.exitCode !== null,
    );
    return this;
  }

  ctl(...words: readonly string[]): Promise<VoltRun> {
    return runVolt(['ctl', this.socket, ...words]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
    this.folder[Symbol.dispose]();
  }

  async #read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
    for await (const bytes of stream) take(Buffer.from(bytes).toString('latin1'));
  }
}
