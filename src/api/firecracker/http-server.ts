/**
 * The API's HTTP server on a Unix socket. Bun's own server cannot give Firecracker's answers: it prints a reason phrase
 * and a date, refuses a request without Host, answers bad requests itself, and does not count connections.
 *
 * Requests of all clients are handled one at a time, in the order in which they arrive, as Firecracker does.
 */
import type { Socket, UnixSocketListener } from 'bun';
import { SerialQueue } from '../../runtime/serial-queue.ts';
import type { ApiRequest } from './request/parse.ts';
import { RequestParser, type HttpEvent } from './http/request-parser.ts';
import {
  formatContinue,
  formatFault,
  formatResponse,
  SERVER_FULL,
  type ApiResponse,
} from './http/response.ts';

/** Clients at the same time. */
const MAX_CONNECTIONS = 10;

export type ApiHandler = (request: ApiRequest) => Promise<ApiResponse> | ApiResponse;

export interface ApiServerOptions {
  readonly path: string;
  readonly maxBodyBytes: number;
  readonly handle: ApiHandler;
}

export interface ApiServer {
  /** Resolves when the answers so far are sent, or their readers had some time to read them. */
  flush(): Promise<void>;
  /** Closes all connections. */
  stop(): void;
}

interface Connection {
  readonly parser: RequestParser;
  /** Answers that the client has not read yet. */
  output: Uint8Array;
  /** Batches of events that are not answered yet. */
  batches: number;
  inputEnded: boolean;
  refused: boolean;
}

type Client = Socket<Connection>;

/** Some runtimes report a connection that ends while they open it as reset, and lose what was sent. */
const REFUSAL_MS = 50;
const FLUSH_MS = 1000;
const FLUSH_STEP_MS = 5;

/** Listens. Throws Bun's error if it cannot. */
export function serveApi({ path, maxBodyBytes, handle }: ApiServerOptions): ApiServer {
  const clients = new Set<Client>();
  const queue = new SerialQueue();
  const listener: UnixSocketListener<Connection> = Bun.listen<Connection>({
    unix: path,
    allowHalfOpen: true,
    socket: {
      open(client) {
        const refused = clients.size >= MAX_CONNECTIONS;
        const parser = new RequestParser(maxBodyBytes);
        client.data = { parser, output: new Uint8Array(), batches: 0, inputEnded: false, refused };
        if (!refused) return void clients.add(client);
        send(client, SERVER_FULL);
        setTimeout(() => client.end(), REFUSAL_MS);
      },
      data(client, bytes) {
        if (client.data.refused) return;
        const events = client.data.parser.push(bytes);
        if (events.length > 0) answerAll(client, events);
      },
      drain: flush,
      end(client) {
        client.data.inputEnded = true;
        closeIfDone(client);
      },
      close: (client) => void clients.delete(client),
      error: (client) => client.terminate(),
    },
  });
  return {
    async flush() {
      const deadline = performance.now() + FLUSH_MS;
      const isWaiting = () => [...clients].some(({ data }) => data.output.length > 0);
      while (isWaiting() && performance.now() < deadline) await Bun.sleep(FLUSH_STEP_MS);
    },
    stop: () => listener.stop(true),
  };

  /** No more is read from a client while its requests are answered, so that none piles up input. */
  function answerAll(client: Client, events: readonly HttpEvent[]): void {
    if (client.data.batches++ === 0) client.pause();
    void queue
      .run(async () => {
        for (const event of events) send(client, await answer(event));
      })
      .finally(() => {
        if (--client.data.batches > 0) return;
        client.resume();
        closeIfDone(client);
      });
  }

  async function answer(event: HttpEvent): Promise<string> {
    switch (event.kind) {
      case 'continue':
        return formatContinue(event.version);
      case 'fault':
        return formatFault(event.message);
      case 'request':
        return formatResponse(await handle(event.request));
    }
  }
}

function send(client: Client, text: string): void {
  client.data.output = Buffer.concat([client.data.output, Buffer.from(text, 'utf8')]);
  flush(client);
}

function flush(client: Client): void {
  const { data } = client;
  if (data.output.length === 0) return;
  const written = client.write(data.output);
  if (written > 0) data.output = data.output.subarray(written);
  closeIfDone(client);
}

function closeIfDone(client: Client): void {
  const { output, batches, inputEnded } = client.data;
  if (inputEnded && batches === 0 && output.length === 0) client.end();
}
