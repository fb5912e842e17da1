/** A user's own folders for names, definitions and logs, and `volt` with them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { runVolt, TemporaryFolder, VOLT, type RunOptions, type VoltRun } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { buildPvhElf } from './tiny-guest.ts';

const HANG_MS = 60_000;

export interface ListedGuest {
  readonly name?: string;
  readonly state: string;
  readonly pid?: number;
  readonly socket?: string;
  readonly config?: string;
}

export class NamedVolts implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly env: Record<string, string>;
  readonly #terminals: ConsoleTerminal[] = [];

  constructor() {
    mkdirSync(this.folder.at('run'));
    this.env = {
      XDG_RUNTIME_DIR: this.folder.at('run'),
      XDG_CONFIG_HOME: this.folder.at('config'),
      XDG_STATE_HOME: this.folder.at('state'),
      NO_COLOR: '1',
    };
  }

  volt(...words: readonly string[]): Promise<VoltRun> {
    return this.run(words);
  }

  run(words: readonly string[], options: RunOptions = {}): Promise<VoltRun> {
    const prefix = ['env', ...Object.entries(this.env).map(([name, value]) => `${name}=${value}`)];
    return runVolt(words, { ...options, prefix });
  }

  /** A configuration file that runs `code` on one CPU. */
  configOf(name: string, code: Uint8Array, changes: object = {}): string {
    writeFileSync(this.folder.at(`${name}.elf`), buildPvhElf(code));
    const config = {
      'boot-source': { kernel_image_path: this.folder.at(`${name}.elf`) },
      'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
      ...changes,
    };
    writeFileSync(this.folder.at(`${name}.json`), JSON.stringify(config));
    return this.folder.at(`${name}.json`);
  }

  /** Guests of this test: `volt ps` lists others of the same user as well. */
  async list(...flags: readonly string[]): Promise<readonly ListedGuest[]> {
    const { stdout } = await this.volt('ps', '--json', ...flags);
    const guests = JSON.parse(stdout) as ListedGuest[];
    return guests.filter(({ socket, config }) =>
      [socket, config].some((path) => path?.startsWith(`${this.folder.path}/`)),
    );
  }

  /** `volt` with these words on a terminal of its own. */
  terminal(...words: readonly string[]): ConsoleTerminal {
    const terminal = new ConsoleTerminal(words, this.env);
    this.#terminals.push(terminal);
    return terminal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const terminal of this.#terminals) await terminal.close();
    for (const { pid } of await this.list()) if (pid !== undefined) process.kill(pid, 'SIGKILL');
    this.folder[Symbol.dispose]();
  }
}

export class ConsoleTerminal {
  output = '';
  readonly #child: Bun.Subprocess;

  constructor(words: readonly string[], env: Record<string, string>) {
    this.#child = Bun.spawn([VOLT, ...words], {
      terminal: { data: (_, bytes) => void (this.output += Buffer.from(bytes).toString('latin1')) },
      env: { ...process.env, ...env },
    });
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  type(keys: string): void {
    this.#child.terminal!.write(keys);
  }

  async shows(text: string): Promise<void> {
    await waitUntil(`the terminal shows ${JSON.stringify(text)}`, () => this.output.includes(text), HANG_MS);
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    this.#child.terminal!.close();
  }
}
