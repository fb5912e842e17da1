/** `volt run` and `volt restore` of the embedded kernel as children, which are saved and go on. */
import { dirname } from 'node:path';
import { runVolt, TemporaryFolder, VOLT, type VoltRun } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';

/** A folder with snapshots, and the guests of a test; all of them end with it. */
export class SnapshotFolder implements AsyncDisposable {
  readonly #folder = new TemporaryFolder();
  readonly #guests: SavedVolt[] = [];

  at(name: string): string {
    return this.#folder.at(name);
  }

  get path(): string {
    return dirname(this.#folder.at('any'));
  }

  /** The embedded kernel with all of its CPUs busy. */
  boot(...flags: readonly string[]): SavedVolt {
    const given = ['--cpus', '2', '--memory', '64M', '--cmdline', 'loop'];
    return this.#start(['run', ...(flags.includes('--cpus') ? [] : given), ...flags]);
  }

  restore(snapshot: string, ...flags: readonly string[]): SavedVolt {
    return this.#start(['restore', this.at(snapshot), ...flags]);
  }

  #start(words: readonly string[]): SavedVolt {
    const guest = new SavedVolt(words, this.at(`${this.#guests.length}.sock`));
    this.#guests.push(guest);
    return guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const guest of this.#guests) guest.kill('SIGKILL');
    await Promise.all(this.#guests.map(({ exited }) => exited));
    this.#folder[Symbol.dispose]();
  }
}

export class SavedVolt {
  readonly socket: string;
  stdout = '';
  stderr = '';
  readonly exited: Promise<number>;
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;

  constructor(words: readonly string[], socket: string) {
    this.socket = socket;
    this.#child = Bun.spawn([VOLT, ...words, '--control', socket], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    const reading = Promise.all([
      read(this.#child.stdout, (text) => (this.stdout += text)),
      read(this.#child.stderr, (text) => (this.stderr += text)),
    ]);
    this.exited = reading.then(() => this.#child.exited);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Numbers of the heartbeats so far. */
  get beats(): number[] {
    return [...this.stdout.matchAll(/heartbeat (\d+): /g)].map((match) => Number(match[1]));
  }

  /** Waits for `count` heartbeats more, or for the end of the process. */
  async beating(count = 1): Promise<this> {
    const wanted = this.beats.length + count;
    const hasEnded = () => this.#child.exitCode !== null || this.#child.signalCode !== null;
    await waitUntil('a heartbeat', () => this.beats.length >= wanted || hasEnded());
    if (this.beats.length < wanted) {
      const how = this.#child.signalCode ?? this.#child.exitCode;
      throw new Error(`It has ended (${how}): ${this.stdout}${this.stderr}`);
    }
    return this;
  }

  ctl(...words: readonly string[]): Promise<VoltRun> {
    return runVolt(['ctl', this.socket, ...words]);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

async function read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
  for await (const bytes of stream) take(Buffer.from(bytes).toString('latin1'));
}
