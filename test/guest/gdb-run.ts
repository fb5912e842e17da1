/** Debian's gdb on a guest of the real binary: a script in, what gdb printed out. */
import { resolve } from 'node:path';
import { TemporaryFolder, VOLT, withDefaults } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';

export const hasGdb = Bun.which('gdb') !== null;
export const SMP_ELF = resolve(import.meta.dir, '../../kernels/smp/smp.elf');

/** For hangs only. */
const HANG_MS = 90_000;

/** Runs gdb to the end of its script, which need not end the guest. */
export async function runGdb(commands: readonly string[]): Promise<string> {
  using folder = new TemporaryFolder();
  const script = ['set pagination off', 'set confirm off', 'set style enabled off', ...commands, ''];
  const path = await folder.write('script.gdb', script.join('\n'));
  await using gdb = Bun.spawn(['gdb', '-nx', '-batch', '-x', path], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: HANG_MS,
    killSignal: 'SIGKILL',
  });
  const [out, errors] = await Promise.all([new Response(gdb.stdout).text(), new Response(gdb.stderr).text()]);
  return `${out}${errors}`;
}

/** `volt run --gdb SOCKET,wait`, which has not executed an instruction yet. */
export class WaitingGuest implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly gdb = this.folder.at('gdb.sock');
  readonly control = this.folder.at('control.sock');
  stdout = '';
  stderr = '';
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  readonly #reading: Promise<unknown>;

  constructor(flags: readonly string[] = []) {
    const small = {
      ...{ '--cpus': '4', '--memory': '64M' },
      ...{ '--gdb': `${this.gdb},wait`, '--control': this.control },
    };
    this.#child = Bun.spawn([VOLT, 'run', ...withDefaults(small, flags)], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    this.#reading = Promise.all([
      this.#read(this.#child.stdout, (text) => (this.stdout += text)),
      this.#read(this.#child.stderr, (text) => (this.stderr += text)),
    ]);
  }

  /** Its exit code, when all that it said has been read. */
  get exited(): Promise<number> {
    return this.#reading.then(() => this.#child.exited);
  }

  get pid(): number {
    return this.#child.pid;
  }

  async waiting(): Promise<this> {
    await waitUntil('the wait for gdb', () => this.stderr.includes('target remote'));
    return this;
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
