/**
 * A client for the control socket of a running guest. Every failure is a VoltError with a message of one
 * line.
 */
import * as v from 'valibot';
import { MAX_SOCKET_PATH_BYTES, probeListener, type ListenerState } from '../../ffi/unix-socket.ts';
import { VoltError, type VoltErrorCode } from '../../volt-error.ts';
import { createLineBuffer, takeLines } from './lines.ts';
import {
  ERROR_CODE,
  type ConsoleMessage,
  type ControlEvent,
  type Method,
  type ParamsOf,
} from './protocol.ts';
import { RESULTS, type ResultOf } from './results.ts';
import { CLIENT_ASKS, type ClientAsk } from './target.ts';

/** Far above the size of any answer: 254 vCPUs are about 60 KB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** Limit of events that are queued for the iterator; more are dropped and counted. */
const MAX_WAITING_EVENTS = 10_000;
/** Longer than any call takes while the machine runs. */
const CALL_TIMEOUT_MS = 30_000;

const ERROR_CODES = [
  'usage',
  'config',
  'image',
  'host',
  'guest',
  'internal',
] as const satisfies VoltErrorCode[];

const ErrorSchema = v.looseObject({
  code: v.number(),
  message: v.string(),
  data: v.optional(v.looseObject({ code: v.fallback(v.picklist(ERROR_CODES), 'host') })),
});

const AnswerSchema = v.union([
  // A malformed error makes the answer invalid, even if there is a result beside it.
  v.looseObject({
    jsonrpc: v.literal('2.0'),
    id: v.number(),
    result: v.unknown(),
    error: v.optional(v.never()),
  }),
  v.looseObject({ jsonrpc: v.literal('2.0'), id: v.nullable(v.number()), error: ErrorSchema }),
  v.looseObject({
    jsonrpc: v.literal('2.0'),
    method: v.literal('event'),
    params: v.looseObject({ kind: v.string() }),
  }),
  v.looseObject({
    jsonrpc: v.literal('2.0'),
    method: v.literal('console'),
    params: v.union([
      v.looseObject({ data: v.string() }),
      v.looseObject({ lost: v.number() }),
      v.looseObject({ writer: v.boolean() }),
    ]),
  }),
  v.looseObject({
    jsonrpc: v.literal('2.0'),
    method: v.picklist(CLIENT_ASKS),
    params: v.looseObject({}),
  }),
]);

/**
 * Does what the guest's process asks for during a call, and returns the descriptors that it is to get. They
 * stay the caller's.
 */
export type AskHandler = (
  what: ClientAsk,
  params: Readonly<Record<string, unknown>>,
) => Promise<readonly number[]>;

/** A connection that carries gdb's remote protocol. */
export interface RawConnection {
  write(bytes: Uint8Array): void;
  /** Resolves when the guest's process has closed the connection. */
  readonly ended: Promise<void>;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: VoltError) => void;
}

/** Connects. Throws VoltError 'host', whose message says what was found at `path`. */
export async function connectControl(path: string): Promise<ControlClient> {
  const client = new ControlClient(path);
  try {
    const socket = await Bun.connect({
      unix: path,
      socket: {
        data: (_socket, chunk) => client.received(chunk),
        drain: () => client.drained(),
        close: () => client.ended('it has ended, or closed the connection'),
        error: (_socket, error) => client.ended(error.message),
      },
    });
    client.connected(socket);
    return client;
  } catch (error) {
    throw cannotConnect(path, error);
  }
}

/** Makes one call on a new connection. */
export async function callOnce<M extends Method>(
  path: string,
  method: M,
  params: ParamsOf<M>,
  timeoutMs: number = CALL_TIMEOUT_MS,
): Promise<ResultOf<M>> {
  using client = await connectControl(path);
  return await client.call(method, params, timeoutMs);
}

/** A connection to a running guest. Calls may overlap; they are answered in order. */
export class ControlClient implements Disposable {
  readonly path: string;
  readonly #input = createLineBuffer(MAX_ANSWER_BYTES);
  readonly #waiting = new Map<number, Waiting>();
  readonly #events: ControlEvent[] = [];
  #dropped = 0;
  #onAsk: AskHandler | undefined;
  #onConsole: (message: ConsoleMessage) => void = () => {};
  #socket: Bun.Socket<undefined> | undefined;
  /** Bytes that the socket has not accepted yet. */
  #unsent: Uint8Array = new Uint8Array();
  #nextId = 1;
  #ended: VoltError | undefined;
  #wake: (() => void) | undefined;
  #raw: { readonly onData: (chunk: Uint8Array) => void; readonly onEnd: () => void } | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Throws VoltError: with the code and message of the guest's answer, or 'host' if no answer comes. */
  async call<M extends Method>(
    method: M,
    params: ParamsOf<M>,
    timeoutMs: number = CALL_TIMEOUT_MS,
  ): Promise<ResultOf<M>> {
    const result = v.safeParse(RESULTS[method], await this.#request(method, params, timeoutMs));
    // The schema belongs to this method, and members are optional only where their type includes undefined.
    if (result.success) return result.output as ResultOf<M>;
    throw this.#failed(
      `its answer to ${method} is malformed`,
      'the control socket of a Volt of this version',
    );
  }

  /** A call during which the guest's process asks for something. One at a time. */
  async callWithFiles<M extends Method>(
    method: M,
    params: ParamsOf<M>,
    onAsk: AskHandler,
    timeoutMs: number,
  ): Promise<ResultOf<M>> {
    this.#onAsk = onAsk;
    try {
      return await this.call(method, params, timeoutMs);
    } finally {
      this.#onAsk = undefined;
    }
  }

  /** Attaches to the console. `onMessage` gets its output, from the moment of the answer on. */
  attachConsole(
    params: ParamsOf<'console'>,
    onMessage: (message: ConsoleMessage) => void,
  ): Promise<ResultOf<'console'>> {
    this.#onConsole = onMessage;
    return this.call('console', params);
  }

  /** Events from the first `next` on, until `close` or the last event, the guest's end. */
  async *events(): AsyncGenerator<ControlEvent, void, undefined> {
    await this.call('events', {});
    for (;;) {
      for (let event = this.#takeEvent(); event; event = this.#takeEvent()) yield event;
      if (this.#ended) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The connection's descriptor, which stays the client's. */
  get fd(): number | undefined {
    // Bun's sockets have it, although its types do not declare it.
    return (this.#socket as unknown as { readonly fd: number } | undefined)?.fd;
  }

  /** Stops the guest for gdb; from then on the connection is gdb's. Throws VoltError like `call`. */
  async startGdb(onData: (chunk: Uint8Array) => void): Promise<RawConnection> {
    await this.call('gdb', {});
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#raw = { onData, onEnd: resolve };
    if (this.#ended) resolve();
    return { write: (bytes) => this.#send(bytes), ended: promise };
  }

  close(): void {
    this.ended('it was closed');
    this.#socket?.end();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Callbacks of the socket follow. */
  connected(socket: Bun.Socket<undefined>): void {
    this.#socket = socket;
  }

  received(chunk: Uint8Array): void {
    if (this.#raw) return this.#raw.onData(chunk);
    for (const line of takeLines(this.#input, chunk)) this.#take(line);
    if (this.#input.overlong) this.#giveUp();
  }

  drained(): void {
    this.#send(new Uint8Array());
  }

  ended(found: string | VoltError): void {
    this.#ended ??= typeof found === 'string' ? this.#failed(found, 'an answer') : found;
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
    this.#raw?.onEnd();
    this.#wakeUp();
  }

  #request(method: Method, params: object, timeoutMs: number): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(
          this.#failed(`it did not answer ${method} within ${timeoutMs} ms`, 'a guest that is not stopped'),
        );
      }, timeoutMs);
      const settled = <T>(settle: (value: T) => void) => {
        return (value: T) => {
          clearTimeout(timer);
          settle(value);
        };
      };
      this.#waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
      this.#send(Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`));
    });
  }

  #send(bytes: Uint8Array): void {
    const all = this.#unsent.length === 0 ? bytes : Buffer.concat([this.#unsent, bytes]);
    const written = all.length === 0 ? 0 : Math.max(0, this.#socket?.write(all) ?? 0);
    this.#unsent = all.subarray(written);
  }

  #take(line: Uint8Array): void {
    const answer = v.safeParse(AnswerSchema, parseJson(line));
    if (!answer.success) return this.#giveUp();
    const message = answer.output;
    if ('method' in message) {
      if (message.method === 'console') return this.#onConsole(message.params as ConsoleMessage);
      if (message.method === 'event') return this.#takeIn(message.params as unknown as ControlEvent);
      return void this.#answerAsk(
        message.method as ClientAsk,
        message.params as Readonly<Record<string, unknown>>,
      );
    }
    if (message.id === null || !this.#waiting.has(message.id)) {
      // Not an answer to a request of this client: the server refuses the connection.
      if ('error' in message) this.ended(toVoltError(message.error as RpcErrorLike));
      return;
    }
    const waiting = this.#waiting.get(message.id)!;
    this.#waiting.delete(message.id);
    if ('error' in message) waiting.reject(toVoltError(message.error as RpcErrorLike));
    else waiting.resolve(message.result);
  }

  #takeIn(event: ControlEvent): void {
    if (this.#events.length >= MAX_WAITING_EVENTS) this.#dropped++;
    else this.#events.push(event);
    this.#wakeUp();
  }

  /** The answer is one newline, which carries the descriptors. Nothing else is under way on the socket. */
  async #answerAsk(what: ClientAsk, params: Readonly<Record<string, unknown>>): Promise<void> {
    const onAsk = this.#onAsk;
    if (!onAsk) return this.#giveUp();
    try {
      const fds = await onAsk(what, params);
      const { sendWithFds } = await import('../../ffi/socket-fds.ts');
      const { fd } = this;
      const sent = this.#ended || fd === undefined ? 0 : sendWithFds(fd, Buffer.from('\n'), fds);
      if (sent < 0)
        throw this.#failed(`the descriptors could not be sent, errno ${-sent}`, 'a guest that runs');
    } catch (error) {
      // The guest's process finds the connection closed, and gives the call up.
      this.ended(error instanceof VoltError ? error : String(error));
      this.#socket?.end();
    }
  }

  #takeEvent(): ControlEvent | undefined {
    const event = this.#events.shift();
    if (event || this.#dropped === 0) return event;
    const count = this.#dropped;
    this.#dropped = 0;
    return { kind: 'dropped', count };
  }

  #giveUp(): void {
    this.ended('the process there does not speak the control protocol');
    this.#socket?.terminate();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #failed(found: string, expected: string): VoltError {
    return new VoltError('host', `Cannot control the guest at ${this.path}: ${found} (expected ${expected})`);
  }
}

type RpcErrorLike = v.InferOutput<typeof ErrorSchema>;

function toVoltError({ code, message, data }: RpcErrorLike): VoltError {
  const ours = code === ERROR_CODE.refused ? (data?.code ?? 'host') : undefined;
  const kind = ours ?? (code === ERROR_CODE.internal ? 'internal' : 'usage');
  return new VoltError(kind, message.replace(/\s*\n\s*/g, ' '));
}

function parseJson(line: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(line).toString('utf8'));
  } catch {
    return undefined;
  }
}

const LISTED = 'the control socket of a running guest; volt ps lists them';

/** Reasons why the connection failed. */
const UNREACHABLE: Readonly<Record<ListenerState, readonly [found: string, expected: string]>> = {
  listening: ['it did not accept the connection', 'an answer at the next try'],
  busy: ['its queue of connections is full', 'a guest that is not stopped'],
  dead: ['no process listens there, the guest has ended', LISTED],
  missing: ['there is no such socket', LISTED],
  other: ['it is not a stream socket', LISTED],
  forbidden: ['permission denied', 'the user who started the guest, or root'],
};

function cannotConnect(path: string, cause: unknown): VoltError {
  const [found, expected] =
    Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES
      ? ['its path is too long for a socket', `at most ${MAX_SOCKET_PATH_BYTES} bytes`]
      : UNREACHABLE[probeListener(path)];
  return new VoltError('host', `Cannot reach a guest at ${path}: ${found} (expected ${expected})`, { cause });
}
