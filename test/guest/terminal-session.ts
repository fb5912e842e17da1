/** Volt on a pseudo-terminal, as a person at a keyboard has it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { buildPvhElf } from './tiny-guest.ts';

const HANG_MS = 60_000;

/** "$0" is a folder for notes and "$@" is volt, whose process id is noted. */
const VOLT_WITH_PID = `sh -c 'echo $$ > "$0.new"; mv "$0.new" "$0"; exec "$@"' "$0/pid" "$@"`;

/** Volt as the shell's foreground job, between two looks at the terminal's settings. */
export const FOREGROUND = `stty -a > "$0/before"; ${VOLT_WITH_PID}; code=$?; stty -a > "$0/after"; exit $code`;

/** Volt as a background job. If it is stopped, the shell's wait is over, with a code that is not volt's. */
export const BACKGROUND = `set -m; stty -a > "$0/before"; ${VOLT_WITH_PID} & wait $!; code=$?; stty -a > "$0/after"; exit $code`;

/** Volt as a background job that `fg` brings to the foreground when its guest is up. */
export const BROUGHT_FORWARD = `set -m; stty -a > "$0/before"; ${VOLT_WITH_PID} & sleep 1; fg; code=$?; stty -a > "$0/after"; exit $code`;

/** Volt as the foreground job of a shell that continues it, with the terminal in the shell's own mode, when it is stopped. */
export const STOPPED_AND_CONTINUED = `set -m; stty -a > "$0/before"; ${VOLT_WITH_PID}; stty sane; echo continued; fg; code=$?; stty -a > "$0/after"; exit $code`;

export class TerminalSession implements AsyncDisposable {
  readonly #folder = new TemporaryFolder();
  readonly #child: Bun.Subprocess;
  #output = '';

  /** Starts a shell `script` that runs volt with a tiny guest. */
  constructor(code: Uint8Array, script = FOREGROUND) {
    const kernel = this.#folder.at('kernel');
    writeFileSync(kernel, buildPvhElf(code));
    const volt = [VOLT, '--kernel', kernel, '--memory', '32M', '--cpus', '1'];
    this.#child = Bun.spawn(['sh', '-c', script, this.#folder.path, ...volt], {
      terminal: { data: (_, bytes) => void (this.#output += Buffer.from(bytes).toString('latin1')) },
      env: { ...process.env, NO_COLOR: '1' },
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    });
  }

  /** All that the terminal has shown so far. */
  get output(): string {
    return this.#output;
  }

  type(keys: string): void {
    this.#child.terminal!.write(keys);
  }

  /** Waits until the terminal has shown `text`. */
  async shows(text: string): Promise<void> {
    await waitUntil(`the terminal shows ${JSON.stringify(text)}`, () => this.#output.includes(text), HANG_MS);
  }

  /** Sends a signal to volt itself. */
  signal(signal: NodeJS.Signals): void {
    process.kill(Number(readFileSync(this.#folder.at('pid'), 'utf8')), signal);
  }

  /** Waits for the end. `before` and `after` are the terminal's settings around volt's run. */
  async ended(): Promise<{ exitCode: number; before: string; after: string }> {
    const exitCode = await this.#child.exited;
    const settings = (name: string) => readFileSync(this.#folder.at(name), 'utf8');
    return { exitCode, before: settings('before'), after: settings('after') };
  }

  /** Ends whatever still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    const pid = this.#folder.at('pid');
    if (this.#child.exitCode === null && existsSync(pid)) killQuietly(Number(readFileSync(pid, 'utf8')));
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    this.#child.terminal!.close();
    this.#folder[Symbol.dispose]();
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
