/**
 * A pool: keeps idle processes that wait for callers at its socket. They accept connections themselves, so that a
 * guest does not wait for the pool; the pool starts another process for each that is taken, and reports how those
 * ended that could not do so themselves.
 */
import { constants } from 'node:os';
import { OwnedFd } from '../../ffi/file.ts';
import { makeBlocking, shutDownListener } from '../../ffi/pool-socket.ts';
import { receiveWithFds } from '../../ffi/receive-fds.ts';
import { createSocketPair } from '../../ffi/socket-pair.ts';
import { listenAt, sendBytes } from '../../ffi/unix-stream.ts';
import { VoltError } from '../../volt-error.ts';
import { placeSocket, type SocketFile } from '../control/socket-file.ts';
import { IDLE_LINE } from './idle-process.ts';
import { encodeAnswer } from './protocol.ts';

/** What has happened in a pool. */
export type PoolEvent =
  | { readonly kind: 'ready'; readonly pid: number; readonly idle: number }
  | { readonly kind: 'taken'; readonly pid: number; readonly idle: number }
  | { readonly kind: 'ended'; readonly pid: number; readonly exitCode: number }
  | { readonly kind: 'refused'; readonly pid: number; readonly why: string }
  | { readonly kind: 'lost'; readonly pid: number; readonly exitCode: number };

export interface PoolOptions {
  /** Processes that are kept idle. */
  readonly size: number;
  /** Path of the socket. */
  readonly path: string;
  /** The command that becomes an idle process. */
  readonly command: readonly string[];
  readonly onEvent: (event: PoolEvent) => void;
}

export interface PoolStatus {
  readonly pid: number;
  readonly socket: string;
  readonly size: number;
  /** Processes that wait for a caller. */
  readonly idle: readonly number[];
  /** Processes that are being started. */
  readonly starting: readonly number[];
  /** Processes that run guests. */
  readonly guests: readonly number[];
  /** Guests so far. */
  readonly taken: number;
  /** Idle processes so far that ended by themselves. */
  readonly lost: number;
}

type Child = Bun.Subprocess<'ignore', 'pipe', 'inherit'>;

interface PooledProcess {
  readonly child: Child;
  readonly handover: OwnedFd;
  state: 'starting' | 'idle' | 'taken';
  /** The caller's connection. */
  caller: OwnedFd | undefined;
}

/** A guest that starts should not share its CPU with the process that is to follow it. */
const REFILL_MS = 50;
/** After an idle process that ended by itself: what ended it may last. */
const RETRY_MS = 1000;
const NEWLINE = '\n';

/** Starts when constructed. Throws VoltError 'host' if it cannot listen. */
export class Pool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #listener: OwnedFd;
  readonly #file: SocketFile;
  readonly #processes = new Map<number, PooledProcess>();
  readonly #filled = Promise.withResolvers<void>();
  readonly #failed = Promise.withResolvers<never>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #taken = 0;
  #lost = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
    let listener: OwnedFd | undefined;
    // A caller for whom no process is left finds the backlog full, and starts its guest itself.
    try {
      this.#file = placeSocket(options.path, (at) => (listener = listenAt(at, options.size - 1)));
    } catch (error) {
      listener?.close();
      throw error;
    }
    this.#listener = listener!;
    makeBlocking(this.#listener.fd);
    this.#failed.promise.catch(() => {});
    process.on('exit', this.#file.remove);
    this.#fill();
  }

  /** Resolves when all processes are idle for the first time. Rejects with VoltError 'host' if none can start. */
  get filled(): Promise<void> {
    return Promise.race([this.#filled.promise, this.#failed.promise]);
  }

  get status(): PoolStatus {
    const pids = (state: PooledProcess['state']) =>
      [...this.#processes].flatMap(([pid, each]) => (each.state === state ? [pid] : []));
    return {
      ...{ pid: process.pid, socket: this.#file.path, size: this.#options.size },
      ...{ idle: pids('idle'), starting: pids('starting'), guests: pids('taken') },
      ...{ taken: this.#taken, lost: this.#lost },
    };
  }

  /** Ends the idle processes. Guests go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    process.off('exit', this.#file.remove);
    this.#file.remove();
    // A process that is just being taken goes on: this only ends the waiting.
    shutDownListener(this.#listener.fd);
    const waiting = [...this.#processes.values()].filter(({ state }) => state !== 'taken');
    for (const { child, state } of waiting) if (state === 'starting') child.kill('SIGTERM');
    await Promise.all(waiting.map(({ child }) => child.exited));
    this.#listener.close();
  }

  #fill(): void {
    this.#timer = undefined;
    if (this.#isClosed) return;
    const { idle, starting } = this.status;
    for (let count = idle.length + starting.length; count < this.#options.size; count++) this.#start();
  }

  #fillIn(ms: number): void {
    this.#timer ??= setTimeout(() => this.#fill(), ms);
  }

  #start(): void {
    const [ours, theirs] = createSocketPair(true);
    const child = Bun.spawn([...this.#options.command, String(process.pid)], {
      stdio: ['ignore', 'pipe', 'inherit', this.#listener.fd, theirs.fd],
      // Ctrl-C at the pool's terminal must not reach the guests.
      detached: true,
    }) as Child;
    theirs.close();
    const entry: PooledProcess = { child, handover: ours, state: 'starting', caller: undefined };
    this.#processes.set(child.pid, entry);
    void this.#readLines(entry);
    void child.exited.then(() => this.#ended(entry));
  }

  async #readLines(entry: PooledProcess): Promise<void> {
    let text = '';
    for await (const bytes of entry.child.stdout) {
      text += Buffer.from(bytes).toString('utf8');
      for (let end = text.indexOf(NEWLINE); end >= 0; end = text.indexOf(NEWLINE)) {
        this.#note(entry, text.slice(0, end + 1));
        text = text.slice(end + 1);
      }
    }
  }

  #note(entry: PooledProcess, line: string): void {
    const { pid } = entry.child;
    if (line === IDLE_LINE.ready) {
      entry.state = 'idle';
      const { idle } = this.status;
      this.#options.onEvent({ kind: 'ready', pid, idle: idle.length });
      if (idle.length >= this.#options.size) this.#filled.resolve();
    } else if (line === IDLE_LINE.taken) {
      entry.state = 'taken';
      this.#taken++;
      const [caller] = receiveWithFds(entry.handover.fd, new Uint8Array(1), 1).fds;
      if (caller !== undefined) entry.caller = new OwnedFd(caller);
      const { idle } = this.status;
      this.#options.onEvent({ kind: 'taken', pid, idle: idle.length });
      this.#fillIn(REFILL_MS);
    } else if (line.startsWith(IDLE_LINE.refused)) {
      this.#options.onEvent({ kind: 'refused', pid, why: line.slice(IDLE_LINE.refused.length, -1) });
    }
  }

  #ended({ child, handover, state, caller }: PooledProcess): void {
    const { pid, exitCode, signalCode } = child;
    // As a shell has it.
    const code =
      exitCode ?? 128 + (signalCode === null ? 0 : constants.signals[signalCode as NodeJS.Signals]);
    this.#processes.delete(pid);
    handover.close();
    if (state === 'taken') {
      if (caller) sendBytes(caller.fd, encodeAnswer({ kind: 'exit', code }));
      caller?.close();
      this.#options.onEvent({ kind: 'ended', pid, exitCode: code });
      return;
    }
    if (this.#isClosed) return;
    this.#lost++;
    this.#options.onEvent({ kind: 'lost', pid, exitCode: code });
    // It has said why on stderr.
    if (state === 'starting' && this.#taken === 0)
      this.#failed.reject(
        new VoltError(
          'host',
          `Cannot keep a pool: its process ended with exit code ${code} before it was ready; see volt doctor`,
        ),
      );
    this.#fillIn(RETRY_MS);
  }
}
