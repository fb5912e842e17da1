/**
 * One client of the control socket.
 *
 * Its requests are answered one by one, in order. Memory is bounded: while requests are pending, nothing more
 * is read from the client; while too many answers are unread, its requests wait; events that it does not read
 * are dropped and counted.
 */
import { createLineBuffer, isBlank, takeLines, takeRest } from './lines.ts';
import { hasHungUp } from '../../ffi/poll.ts';
import { VoltError } from '../../volt-error.ts';
import { ConsoleSession } from './console-session.ts';
import { toRpcError, type Dispatch } from './dispatch.ts';
import {
  ERROR_CODE,
  formatAsk,
  formatError,
  formatEvent,
  formatResult,
  MAX_LINE_BYTES,
  parseRequest,
  type RequestId,
} from './protocol.ts';
import type { ConsoleHub } from '../console-hub.ts';
import type { OwnedFd } from '../../ffi/file.ts';
import type { CallingClient, ClientAsk, ControlTarget, VmEvent } from './target.ts';
import type { GdbSession } from '../../vmm/debug/gdb-session.ts';

/** Limit of unread output, in addition to the socket's buffer. */
const MAX_WAITING_BYTES = 256 * 1024;
/** After this many lines the event loop runs, so that the console and signals are served. */
const LINES_PER_TURN = 32;
/** Time for pending requests and unread answers when the server closes. */
const CLOSING_MS = 1000;
/** A client that asked for nothing in this time makes room for another. */
const IDLE_MS = 60_000;
/** How often the connection of a long call is looked at. */
const HANG_UP_MS = 100;

/** The part of Bun.Socket that a session uses. */
export interface SessionSocket {
  write(bytes: Uint8Array): number;
  end(): unknown;
  terminate(): void;
  pause(): unknown;
  resume(): unknown;
  /** Of Bun's sockets, although its types do not declare it. */
  readonly fd?: number;
}

export interface SessionContext {
  readonly dispatch: Dispatch;
  readonly console: () => ConsoleHub | undefined;
  readonly onEvent: (listener: (event: VmEvent) => void) => () => void;
  readonly attachGdb: ControlTarget['attachGdb'];
}

export class ClientSession {
  readonly #socket: SessionSocket;
  readonly #context: SessionContext;
  readonly #input = createLineBuffer(MAX_LINE_BYTES);
  readonly #output: Uint8Array[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #unsubscribe: (() => void) | undefined;
  #console: ConsoleSession | undefined;
  /** Number of batches of lines that are not answered yet, and the promise of the last one. */
  #batches = 0;
  #work: Promise<void> = Promise.resolve();
  /** The client has shut down its sending side, but may still read. */
  #inputEnded = false;
  #closed = false;
  #finishing = false;
  #wake: (() => void) | undefined;
  #hasAsked = false;
  readonly #caller: CallingClient = {
    ask: (what, params, files) => this.#askClient(what, params, files),
    onGone: (listener) => this.#watchClient(listener),
  };
  #lastActive = performance.now();
  /** From `gdb` on, the connection is gdb's. */
  #gdb: GdbSession | undefined;

  constructor(socket: SessionSocket, context: SessionContext) {
    this.#socket = socket;
    this.#context = context;
  }

  /** Start of the client's idle time, on performance.now()'s clock; undefined if it must not be disconnected for that. */
  get idleSince(): number | undefined {
    const isBusy =
      this.#batches > 0 || this.#waitingBytes > 0 || this.#isSubscribed || this.#gdb !== undefined;
    const isIdle = !this.#hasAsked || performance.now() - this.#lastActive > IDLE_MS;
    return isIdle && !isBusy ? this.#lastActive : undefined;
  }

  received(chunk: Uint8Array): void {
    if (this.#gdb) return this.#gdb.received(chunk);
    const wasOverlong = this.#input.overlong;
    const lines = takeLines(this.#input, chunk);
    if (lines.length > 0) {
      this.#hasAsked = true;
      this.#lastActive = performance.now();
      this.#serve(lines);
    }
    if (this.#input.overlong && !wasOverlong) this.#hangUp();
  }

  /**
   * The client has shut down its sending side; pending requests are answered. The last line may lack its
   * newline.
   */
  inputEnded(): void {
    if (this.#gdb) {
      this.#gdb.closed();
      this.#socket.end();
      return;
    }
    const rest = takeRest(this.#input);
    this.#inputEnded = true;
    if (rest) this.#serve([rest]);
    this.#endIfDone();
  }

  drained(): void {
    while (this.#output.length > 0) {
      const head = this.#output[0]!;
      const written = Math.max(0, this.#socket.write(head));
      this.#waitingBytes -= written;
      if (written < head.length) {
        this.#output[0] = head.subarray(written);
        return;
      }
      this.#output.shift();
    }
    this.#gdb?.drained();
    this.#tellDropped();
    this.#console?.drained();
    this.#wakeUp();
    this.#endIfDone();
  }

  /** The connection is closed. Complete requests are still executed, without an answer. */
  closed(): void {
    this.#closed = true;
    this.#gdb?.closed();
    this.#stopEvents();
    this.#output.length = 0;
    this.#waitingBytes = 0;
    this.#wakeUp();
  }

  /**
   * Closes the connection when the pending request is answered and the answer is read, or after CLOSING_MS.
   */
  async finish(): Promise<void> {
    this.#finishing = true;
    this.#stopEvents();
    this.#wakeUp();
    const { promise: deadline, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, CLOSING_MS);
    await Promise.race([this.#work, deadline]);
    await Promise.race([this.#flushed(), deadline]);
    clearTimeout(timer);
    if (this.#closed) return;
    if (this.#waitingBytes > 0) this.#socket.terminate();
    else this.#socket.end();
  }

  /** Says why and closes the connection, whether or not the client closes its side. */
  refuse(message: string): void {
    this.#send(formatError(null, { code: ERROR_CODE.refused, message, data: { code: 'host' } }));
    this.#inputEnded = true;
    this.#endIfDone();
  }

  terminate(): void {
    if (!this.#closed) this.#socket.terminate();
  }

  #serve(lines: readonly Uint8Array[]): void {
    if (this.#batches++ === 0) this.#socket.pause();
    this.#work = this.#work
      .then(() => this.#answerAll(lines))
      .finally(() => {
        if (--this.#batches > 0) return;
        if (!this.#closed) this.#socket.resume();
        this.#endIfDone();
      });
  }

  async #answerAll(lines: readonly Uint8Array[]): Promise<void> {
    let sinceTurn = 0;
    for (const line of lines) {
      if (++sinceTurn % LINES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      while (this.#waitingBytes > MAX_WAITING_BYTES && !this.#finishing) await this.#flushed();
      if (this.#finishing || this.#gdb) return;
      if (!isBlank(line)) await this.#answer(line);
    }
  }

  async #answer(line: Uint8Array): Promise<void> {
    const incoming = parseRequest(line);
    const { id } = incoming;
    if (incoming.kind === 'refused') {
      if (id !== undefined) this.#send(formatError(id, incoming.error));
      return;
    }
    try {
      const { call } = incoming;
      if (call.method === 'events') this.#startEvents(id);
      else if (call.method === 'gdb') await this.#startGdb(id);
      else if (call.method === 'console')
        this.#openConsole().start(call.params, (result) => this.#reply(id, result));
      else if (call.method === 'console-input')
        this.#reply(id, await this.#openConsole().type(call.params.data));
      else this.#reply(id, await this.#context.dispatch(call, this.#caller));
    } catch (error) {
      if (id !== undefined) this.#send(formatError(id, toRpcError(error)));
    }
  }

  #reply(id: RequestId | undefined, result: unknown): void {
    if (id !== undefined) this.#send(formatResult(id, result));
  }

  async #askClient(what: ClientAsk, params: object, files: number): Promise<OwnedFd[]> {
    const { receiveAnswer } = await import('./receive-files.ts');
    this.#send(formatAsk(what, params));
    return receiveAnswer(this.#socketFd(), { what, files, isGone: () => this.#closed });
  }

  /** The socket is paused while a call is answered, so the runtime does not report that it was closed. */
  #watchClient(onGone: () => void): () => void {
    const fd = this.#socketFd();
    const timer = setInterval(() => {
      if (!this.#closed && !hasHungUp(fd)) return;
      clearInterval(timer);
      onGone();
    }, HANG_UP_MS);
    return () => clearInterval(timer);
  }

  #socketFd(): number {
    const { fd } = this.#socket;
    if (fd !== undefined && fd >= 0 && !this.#closed) return fd;
    throw new VoltError('host', 'Cannot ask the client: it has closed the connection; connect again');
  }

  #startEvents(id: RequestId | undefined): void {
    // The answer is sent before the first event.
    this.#reply(id, { subscribed: true });
    if (!this.#closed) this.#unsubscribe ??= this.#context.onEvent((event) => this.#tellEvent(event));
  }

  /** The answer is the last line; everything after it is gdb's remote protocol. */
  async #startGdb(id: RequestId | undefined): Promise<void> {
    const gdb = await this.#context.attachGdb(this.#socket);
    this.#stopEvents();
    this.#reply(id, { attached: true });
    this.#gdb = gdb;
    if (this.#closed) gdb.closed();
  }

  #openConsole(): ConsoleSession {
    const hub = this.#context.console();
    if (!hub) {
      throw new VoltError(
        'usage',
        'Cannot open the console: the program that runs this guest keeps it to itself; use its own',
      );
    }
    if (this.#closed) throw new VoltError('host', 'Cannot open the console: the connection is closed');
    this.#console ??= new ConsoleSession(hub, {
      send: (text) => this.#send(text),
      isBehind: () => this.#waitingBytes > MAX_WAITING_BYTES,
    });
    return this.#console;
  }

  get #isSubscribed(): boolean {
    return this.#unsubscribe !== undefined || this.#console?.isOpen === true;
  }

  /** Also ends the console's. */
  #stopEvents(): void {
    this.#console?.stop();
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  #tellEvent(event: VmEvent): void {
    // The last event is never dropped; it is one line.
    if (this.#waitingBytes > MAX_WAITING_BYTES && event.kind !== 'ended') {
      this.#dropped++;
      return;
    }
    this.#tellDropped();
    this.#send(formatEvent(event));
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    const count = this.#dropped;
    this.#dropped = 0;
    this.#send(formatEvent({ kind: 'dropped', count }));
  }

  #send(text: string): void {
    if (this.#closed) return;
    const bytes = Buffer.from(text, 'utf8');
    // On a failed socket write returns -1, and `closed` follows; until then its output is kept, as for a slow
    // client.
    const written = this.#output.length === 0 ? Math.max(0, this.#socket.write(bytes)) : 0;
    if (written === bytes.length) return;
    this.#output.push(bytes.subarray(written));
    this.#waitingBytes += bytes.length - written;
  }

  /** After a line that is too long, no further line can be parsed. */
  #hangUp(): void {
    void this.#work.then(() => {
      this.#send(
        formatError(null, {
          code: ERROR_CODE.invalidRequest,
          message: `Cannot read the line: it has more than ${MAX_LINE_BYTES} bytes; closing the connection, send shorter lines`,
        }),
      );
      this.#stopEvents();
      this.#inputEnded = true;
      this.#endIfDone();
    });
  }

  #endIfDone(): void {
    if (this.#gdb) return;
    const done = this.#inputEnded && this.#batches === 0 && this.#waitingBytes === 0 && !this.#isSubscribed;
    if (done && !this.#closed) this.#socket.end();
  }

  /** Resolves when the client has read everything, or the connection is closed. */
  #flushed(): Promise<void> {
    if (this.#waitingBytes === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const before = this.#wake;
      this.#wake = () => {
        before?.();
        resolve();
      };
    });
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
