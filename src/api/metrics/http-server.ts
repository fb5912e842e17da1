/**
 * An HTTP/1.1 server for one small answer. Bun's server does not limit connections, so a flood of them
 * exhausts the descriptors that devices and the control socket need, and it answers malformed requests with
 * an HTML page.
 *
 * At most MAX_CONNECTIONS are open. A new connection closes the oldest one, so idle connections block no
 * other client.
 */
import type { Socket, TCPSocketListener, UnixSocketListener } from 'bun';
import { MAX_HEAD_BYTES, readRequestHead } from './http-request.ts';

export const MAX_CONNECTIONS = 32;
/** Maximum duration of a connection, whatever the client sends or reads. */
const CONNECTION_MS = 5000;
const CHECK_MS = 1000;

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Answers GET and HEAD of a path; other methods are refused before. */
export type HttpHandler = (path: string) => HttpAnswer;

const REASONS: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  505: 'HTTP Version Not Supported',
};

interface Connection {
  readonly openedAt: number;
  head: Uint8Array;
  /** The unsent rest of the answer; undefined until there is one. */
  answer: Uint8Array | undefined;
}

type Client = Socket<Connection>;

export type ListenAddress = { readonly unix: string } | { readonly hostname: string; readonly port: number };

export interface HttpServer {
  /** undefined for a Unix socket. */
  readonly port: number | undefined;
  stop(): void;
}

/** Starts a server. Throws Bun's error if it cannot listen at the address. */
export function serveHttp(address: ListenAddress, handle: HttpHandler): HttpServer {
  const clients = new Set<Client>();
  const socket = {
    open(client: Client) {
      client.data = { openedAt: performance.now(), head: new Uint8Array(), answer: undefined };
      clients.add(client);
      if (clients.size > MAX_CONNECTIONS) clients.values().next().value!.terminate();
    },
    data(client: Client, bytes: Uint8Array) {
      const { data } = client;
      if (data.answer) return;
      data.head = Buffer.concat([data.head, bytes.subarray(0, MAX_HEAD_BYTES - data.head.length)]);
      const answer = answerTo(data.head, handle);
      if (answer) send(client, answer);
    },
    drain: flush,
    close: (client: Client) => void clients.delete(client),
    error: (client: Client) => client.terminate(),
  };
  const listener: TCPSocketListener<Connection> | UnixSocketListener<Connection> =
    'unix' in address
      ? Bun.listen<Connection>({ unix: address.unix, socket })
      : Bun.listen<Connection>({ hostname: address.hostname, port: address.port, socket });
  listener.unref();
  const timer = setInterval(() => closeLate(clients), CHECK_MS);
  timer.unref();
  return {
    port: 'port' in listener ? listener.port : undefined,
    stop() {
      clearInterval(timer);
      listener.stop(true);
    },
  };
}

/** The answer to the bytes received so far; undefined while the request is incomplete. */
export function answerTo(bytes: Uint8Array, handle: HttpHandler): Uint8Array | undefined {
  const head = readRequestHead(bytes);
  switch (head.kind) {
    case 'incomplete':
      return undefined;
    case 'refused':
      return encode({ status: head.status, body: `${REASONS[head.status]}\n` }, true);
    case 'request': {
      const { method, path } = head;
      if (method !== 'GET' && method !== 'HEAD')
        return encode(
          {
            status: 405,
            body: 'Cannot answer this method (expected GET or HEAD)\n',
            headers: { allow: 'GET, HEAD' },
          },
          true,
        );
      return encode(handleSafely(path, handle), method === 'GET');
    }
  }
}

function handleSafely(path: string, handle: HttpHandler): HttpAnswer {
  try {
    return handle(path);
  } catch {
    // The machine may be ending at this moment.
    return { status: 500, body: 'Cannot read the metrics; the guest may be ending\n' };
  }
}

function encode({ status, body, headers = {} }: HttpAnswer, withBody: boolean): Uint8Array {
  const bytes = Buffer.from(body, 'utf8');
  const fields = Object.entries({
    'content-type': 'text/plain; charset=utf-8',
    ...headers,
    'content-length': String(bytes.length),
    connection: 'close',
  });
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const head = Buffer.from(`HTTP/1.1 ${status} ${REASONS[status] ?? ''}\r\n${lines}\r\n`, 'latin1');
  return withBody ? Buffer.concat([head, bytes]) : head;
}

function send(client: Client, answer: Uint8Array): void {
  client.data.answer = answer;
  flush(client);
}

function flush(client: Client): void {
  const { data } = client;
  if (!data.answer) return;
  const written = client.write(data.answer);
  if (written > 0) data.answer = data.answer.subarray(written);
  if (data.answer.length === 0) client.end();
}

function closeLate(clients: ReadonlySet<Client>): void {
  const now = performance.now();
  for (const client of clients) {
    if (now - client.data.openedAt < CONNECTION_MS) return;
    if (!client.data.answer) send(client, encode({ status: 408, body: 'Request Timeout\n' }, true));
    client.terminate();
  }
}
