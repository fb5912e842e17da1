/** `volt firecracker` as a child process, in a network namespace of its own with a tap, and a client of its API. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { probeListener } from '../../../src/ffi/unix-socket.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../../cli/volt-process.ts';
import { waitUntil } from '../guest-run.ts';
import { buildPvhElf } from '../tiny-guest.ts';
import { askAt, requestAt, type RawAnswer } from './client.ts';

export { kvmOpens };
export const isRoot = process.getuid?.() === 0;

/** cli; hlt; jmp $-1 */
const HALT_FOR_GOOD = Uint8Array.of(0xfa, 0xf4, 0xeb, 0xfd);

interface ChildOptions {
  readonly taps?: readonly string[];
  readonly kernel?: Uint8Array;
}

/** Writes a kernel that halts for good; returns its path. */
export function haltingKernel(folder: TemporaryFolder): string {
  const path = folder.at('kernel.elf');
  writeFileSync(path, buildPvhElf(HALT_FOR_GOOD));
  return path;
}

function isListening(path: string): boolean {
  return existsSync(path) && probeListener(path) === 'listening';
}

export class FirecrackerChild implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  readonly socket = this.folder.at('api.sock');
  readonly kernel = this.folder.at('kernel.elf');
  readonly metricsPath = this.folder.at('metrics');
  readonly child: Bun.Subprocess<'ignore', 'pipe', 'pipe'>;
  stdout = '';
  stderr = '';
  readonly #reading: Promise<unknown>;

  /** `before` starts it later: a shell whose $0 is the folder. */
  private constructor(words: readonly string[], taps: readonly string[], before: readonly string[] = []) {
    const volt = [VOLT, 'firecracker', ...words.map((word) => word.replace('$D', this.folder.path))];
    const makeTaps = taps.map((name) => `ip tuntap add ${name} mode tap && ip link set ${name} up`);
    const command =
      taps.length === 0
        ? [...before, ...(before.length > 0 ? [this.folder.path] : []), ...volt]
        : ['unshare', '-n', 'sh', '-c', `${makeTaps.join(' && ')} && exec "$@"`, 'sh', ...volt];
    this.child = Bun.spawn(command, { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
    this.#reading = Promise.all([
      this.#read(this.child.stdout, (text) => (this.stdout += text)),
      this.#read(this.child.stderr, (text) => (this.stderr += text)),
    ]);
  }

  /** Starts it and waits for its API. `$D` in `words` is the folder. */
  static async start(
    words: readonly string[],
    { taps = [], kernel = buildPvhElf(HALT_FOR_GOOD) }: ChildOptions = {},
  ): Promise<FirecrackerChild> {
    const child = new FirecrackerChild(['--api-sock', '$D/api.sock', ...words], taps);
    await child.folder.write('kernel.elf', kernel);
    await child.folder.write('disk.img', new Uint8Array(1 << 20));
    // The file is there before anybody listens.
    await waitUntil('the API socket', () => isListening(child.socket) || child.child.exitCode !== null);
    return child;
  }

  /** Starts it with a configuration file that has `kernel`, and without an API. */
  static async startFromFile(kernel: Uint8Array): Promise<FirecrackerChild> {
    const words = ['sh', '-c', 'while [ ! -e "$0/go" ]; do sleep 0.05; done; exec "$@"'];
    const child = new FirecrackerChild(['--no-api', '--config-file', '$D/vm.json'], [], words);
    await child.folder.write('kernel.elf', kernel);
    const config = { 'boot-source': { kernel_image_path: child.kernel, boot_args: '' }, drives: [] };
    await child.folder.write('vm.json', Buffer.from(JSON.stringify(config)));
    await child.folder.write('go', new Uint8Array());
    return child;
  }

  /** Sends `text` on a connection of its own and returns the last answer to it, of `answers`. */
  raw(text: string, answers = 1): Promise<RawAnswer> {
    return askAt(this.socket, text, answers);
  }

  /** One request with a JSON body, or none. */
  request(method: string, path: string, body?: unknown): Promise<RawAnswer> {
    return requestAt(this.socket, method, path, body);
  }

  /** A request that must be answered by 204. */
  async done(method: string, path: string, body: unknown): Promise<void> {
    const { status, text } = await this.request(method, path, body);
    if (status !== 204) throw new Error(`${method} ${path}: ${text}${this.stdout}${this.stderr}`);
  }

  /** What flags that only print do. */
  static print(...words: readonly string[]): Promise<string> {
    const child = Bun.spawn([VOLT, 'firecracker', ...words], { stdin: 'ignore' });
    return new Response(child.stdout).text();
  }

  metrics(): Record<string, unknown>[] {
    return readFileSync(this.metricsPath, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  get exited(): Promise<number> {
    return this.#reading.then(() => this.child.exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
    this.folder[Symbol.dispose]();
  }

  async #read(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
    for await (const chunk of stream) take(Buffer.from(chunk).toString());
  }
}
