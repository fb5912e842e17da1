/**
 * Jobs of a nested host, seen from outside: each is a folder in the exchange share plus a line to the agent
 * (protocol: nested-agent.sh). Output is read from the files that the agent writes, so it is binary-safe and live.
 */
import { closeSync, mkdirSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

export type OutputStream = 'stdout' | 'stderr';

export interface RunOptions {
  /** The command is killed after this time and run() rejects. Default 300. */
  timeoutSeconds?: number;
  /** Added to a minimal environment (PATH, HOME); nothing of this process's own is passed on. */
  env?: Readonly<Record<string, string>>;
  /** Default: the repository, or / where the root is an image. */
  cwd?: string;
  /**
   * What the command reads, followed by end of file. Default: /dev/null. An async iterable is passed on piece by
   * piece as it yields, which a guest's console needs: what arrives before its driver is up is lost.
   */
  stdin?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
  /** Called as output arrives, about 20 ms late, in order within a stream. */
  onOutput?: (stream: OutputStream, bytes: Uint8Array) => void;
  /** Aborting kills the command: run() then resolves with exit code 137 and the output so far. */
  signal?: AbortSignal;
}

export interface RunResult {
  /** As a shell reports it: 128 + N for signal N. */
  exitCode: number;
  stdout: string;
  stderr: string;
  /** The same bytes, undecoded. */
  stdoutBytes: Uint8Array;
  stderrBytes: Uint8Array;
}

export interface JobRunner {
  run(command: string | readonly string[], options?: RunOptions): Promise<RunResult>;
  /** A line from the agent about a job. Unknown IDs (timed-out jobs) are ignored. */
  receive(verb: string, id: string, argument: string): void;
  /** Rejects every running job and every later run(). Only the first call counts. */
  failAll(error: Error): void;
}

interface RunningJob {
  open: () => void;
  finish: (exitCode: number) => void;
  fail: (error: Error) => void;
}

export const repositoryDir = resolve(import.meta.dir, '..');

/** Path, inside the nested host, of the folder shared with this machine. */
export const guestExchangeDir = '/run/nested/exchange';

const pollMs = 20;
const defaultTimeoutSeconds = 300;
const shownLines = 15;

/** `send` writes a line to the agent; `describe` makes an error of a message and the end of the console log. */
export function createJobRunner(
  exchangeDir: string,
  send: (line: string) => void,
  describe: (message: string) => Error,
): JobRunner {
  const running = new Map<string, RunningJob>();
  let nextId = 1;
  let failure: Error | undefined;

  const run = async (command: string | readonly string[], options: RunOptions = {}): Promise<RunResult> => {
    if (failure !== undefined) throw failure;
    const id = String(nextId++);
    const dir = join(exchangeDir, 'jobs', id);
    mkdirSync(dir);
    writeFileSync(join(dir, 'command'), commandScript(command, options));
    const { stdin } = options;
    const isLive = typeof stdin === 'object' && Symbol.asyncIterator in stdin;
    if (stdin !== undefined && !isLive) writeFileSync(join(dir, 'stdin'), stdin);
    const [stdout, stderr] = [join(dir, 'stdout'), join(dir, 'stderr')].map(followFile) as [
      Follower,
      Follower,
    ];
    const poll = (): void => {
      for (const [stream, follower] of [
        ['stdout', stdout],
        ['stderr', stderr],
      ] as const) {
        const bytes = follower.readNew();
        if (bytes.length > 0) options.onOutput?.(stream, bytes);
      }
    };
    const kill = (): void => send(`kill ${id}`);
    const timeoutSeconds = options.timeoutSeconds ?? defaultTimeoutSeconds;
    const ended = Promise.withResolvers<number>();
    const timeout = setTimeout(() => {
      kill();
      const name = typeof command === 'string' ? command : command.join(' ');
      poll();
      const output = lastLines(decode(stdout.all()) + decode(stderr.all()));
      const reason = `Cannot finish "${name}" in the nested host: still running after ${timeoutSeconds} s`;
      ended.reject(describe(`${reason}${output && `\nEnd of its output:\n${output}`}`));
    }, timeoutSeconds * 1000);
    const polling = options.onOutput === undefined ? undefined : setInterval(poll, pollMs);
    const feed = async (pieces: AsyncIterable<string | Uint8Array>): Promise<void> => {
      let index = 0;
      for await (const piece of pieces) {
        if (!running.has(id)) return;
        writeFileSync(join(dir, `stdin.${index}`), piece);
        send(`input ${id} ${index++}`);
      }
      send(`input ${id} end`);
    };
    const open = (): void => {
      if (!isLive) return;
      feed(stdin).catch((error: Error) => {
        kill();
        ended.reject(error);
      });
    };
    running.set(id, { open, finish: ended.resolve, fail: ended.reject });
    send(`run ${id} ${isLive ? 'pieces' : stdin === undefined ? 'none' : 'file'}`);
    options.signal?.addEventListener('abort', kill);
    if (options.signal?.aborted === true) kill();
    try {
      const exitCode = await ended.promise;
      poll();
      const [stdoutBytes, stderrBytes] = [stdout.all(), stderr.all()];
      return { exitCode, stdout: decode(stdoutBytes), stderr: decode(stderrBytes), stdoutBytes, stderrBytes };
    } finally {
      options.signal?.removeEventListener('abort', kill);
      clearTimeout(timeout);
      clearInterval(polling);
      running.delete(id);
      stdout.close();
      stderr.close();
      rmSync(dir, { recursive: true, force: true });
    }
  };

  const failAll = (error: Error): void => {
    failure ??= error;
    for (const job of running.values()) job.fail(failure);
  };
  const receive = (verb: string, id: string, argument: string): void => {
    if (verb === 'open') running.get(id)?.open();
    if (verb === 'done') running.get(id)?.finish(Number(argument));
  };
  return { run, receive, failAll };
}

/** The shell script the agent runs: environment, folder, then the command in the shell's place. */
function commandScript(command: string | readonly string[], options: RunOptions): string {
  const binDirs = [dirname(process.execPath), join(repositoryDir, 'node_modules/.bin')];
  const systemDirs = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const environment = {
    PATH: [...binDirs, ...systemDirs].join(':'),
    HOME: '/run/nested/home',
    TERM: 'dumb',
    ...options.env,
  };
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}=${quote(value)}\n`);
  const enter = `cd ${quote(options.cwd ?? repositoryDir)} || exit 126\n`;
  const body = typeof command === 'string' ? command : `exec ${command.map(quote).join(' ')}`;
  return `${exports.join('')}${enter}${body}\n`;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

interface Follower {
  /** Bytes appended since the last call. */
  readNew(): Uint8Array;
  /** All bytes read so far. */
  all(): Uint8Array;
  close(): void;
}

/** Creates an empty file and reads what others append to it. */
function followFile(path: string): Follower {
  const file = openSync(path, 'w+');
  const chunks: Uint8Array[] = [];
  let position = 0;
  const readNew = (): Uint8Array => {
    const fresh: Uint8Array[] = [];
    for (;;) {
      const buffer = Buffer.alloc(65536);
      const length = readSync(file, buffer, 0, buffer.length, position);
      if (length === 0) break;
      position += length;
      fresh.push(buffer.subarray(0, length));
    }
    chunks.push(...fresh);
    return Buffer.concat(fresh);
  };
  return { readNew, all: () => Buffer.concat(chunks), close: () => closeSync(file) };
}

/** The end of a text that goes into an error message. */
export function lastLines(text: string): string {
  return text.replaceAll('\r', '').trimEnd().split('\n').slice(-shownLines).join('\n');
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
