/**
 * `volt web`: a page with all guests of this user. It only uses control sockets, as this user may, so whoever
 * may not open those sees nothing. docs/web.md and SECURITY.md say who may open the page.
 */
import type { Server, ServerWebSocket } from 'bun';
import { VoltError } from '../../volt-error.ts';
import { placeSocket } from '../control/socket-file.ts';
import { basicPassword, COMMON_HEADERS, isSame, pageHeaders, refusalOf, type Access } from './access.ts';
import { GuestFeed } from './guest-feed.ts';
import type { WebAddress } from './listen-address.ts';
import type { ToPage } from './messages.ts';
import { PageSession } from './page-session.ts';
import type { Page } from './page.ts';

export interface WebOptions {
  readonly address: WebAddress;
  /** PEM texts. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** Opens the page without the token. */
  readonly password: string | undefined;
  /** How Volt is started, for guests that the page starts. */
  readonly ownCommand: readonly string[];
}

export interface WebServer extends Disposable {
  /** With the token; for a Unix socket as behind a forwarded port. */
  readonly url: string;
  /** The Unix socket. */
  readonly path: string | undefined;
}

interface SocketData {
  session: PageSession | undefined;
}
type PageSocket = ServerWebSocket<SocketData>;

const TOKEN_BYTES = 24;
const MAX_PAGES = 32;
const MAX_MESSAGE_BYTES = 64 * 1024;
/** Beyond this a page gets no more looks, and loses console output. */
const MAX_UNREAD_BYTES = 1024 * 1024;
/** After a wrong password: all who guess wait in one line. */
const GUESS_MS = 1000;

/** Throws VoltError. */
export async function openWeb(options: WebOptions): Promise<WebServer> {
  return serveWeb(options, await loadPage());
}

/** A source tree after npm ci has no page yet: its module cannot be loaded. */
async function loadPage(): Promise<Page> {
  const module = await import('./page.ts').catch((cause: unknown) => {
    throw new VoltError('host', 'Cannot open the web page: it is not built; run npm run build', { cause });
  });
  return module.readPage();
}

function serveWeb(options: WebOptions, page: Page): WebServer {
  const { address, tls, password, ownCommand } = options;
  const token = crypto.getRandomValues(Buffer.alloc(TOKEN_BYTES)).toString('base64url');
  const sockets = new Set<PageSocket>();
  const watched = () => new Set([...sockets].flatMap(({ data }) => data.session?.watched ?? []));
  const tell = (message: ToPage) => {
    const text = JSON.stringify(message);
    for (const socket of sockets) if (isFor(message, socket)) socket.send(text);
  };
  const feed = new GuestFeed(tell, watched);
  const scheme = tls ? 'https' : 'http';
  let access: Access = { token, hosts: 'loopback', scheme };
  let guessing = Promise.resolve();

  const fetch = async (request: Request, server: Server<SocketData>) => {
    const url = new URL(request.url);
    const { headers } = request;
    const head = {
      host: headers.get('host'),
      origin: headers.get('origin'),
      token: url.searchParams.get('token'),
    };
    if (request.method !== 'GET') return answer(405, 'this server answers GET alone');
    if (password !== undefined && url.pathname === '/' && head.token === null) {
      const given = basicPassword(headers.get('authorization'));
      const isRight = given !== undefined && isSame(given, password);
      const refusal = refusalOf(access, { ...head, token });
      if (refusal !== undefined) return answer(403, refusal);
      if (!isRight) {
        if (given !== undefined) await (guessing = guessing.then(() => Bun.sleep(GUESS_MS)));
        return answer(401, 'a password is needed', { 'www-authenticate': 'Basic realm="volt"' });
      }
      return answer(303, '', { location: `/?token=${token}` });
    }
    const refusal = refusalOf(access, head);
    if (refusal !== undefined) return answer(403, refusal);
    if (url.pathname === '/')
      return new Response(page.html as Uint8Array<ArrayBuffer>, {
        headers: pageHeaders(page.scriptHash, access, head.host!),
      });
    if (url.pathname !== '/live') return answer(404, 'there is nothing at this path');
    // A browser names the page's origin; other programs have the token and need none.
    if (sockets.size >= MAX_PAGES) return answer(503, `${MAX_PAGES} pages are open; close one first`);
    if (server.upgrade(request, { data: { session: undefined } })) return undefined;
    return answer(400, 'this path is for a WebSocket');
  };

  const websocket = {
    maxPayloadLength: MAX_MESSAGE_BYTES,
    idleTimeout: 120,
    open(socket: PageSocket) {
      sockets.add(socket);
      const connection = {
        send: (message: ToPage) => void socket.send(JSON.stringify(message)),
        isBehind: () => socket.getBufferedAmount() > MAX_UNREAD_BYTES,
      };
      socket.data.session = new PageSession(connection, feed, ownCommand);
      connection.send({ type: 'guests', guests: feed.guests });
    },
    message: (socket: PageSocket, text: string | Buffer) => void socket.data.session?.received(String(text)),
    close(socket: PageSocket) {
      sockets.delete(socket);
      socket.data.session?.[Symbol.dispose]();
    },
  };

  const common = { fetch, websocket, ...(tls ? { tls } : {}) };
  try {
    const { server, path } = listen(address, common);
    const name = address.kind === 'unix' ? 'localhost:PORT' : nameOf(address.hostname, server.port!);
    if (address.kind === 'tcp') access = { ...access, hosts: hostsOf(address, server.port!) };
    return {
      url: `${scheme}://${name}/?token=${token}`,
      path: path?.path,
      [Symbol.dispose]: () => {
        feed[Symbol.dispose]();
        path?.remove();
        void server.stop(true);
      },
    };
  } catch (error) {
    feed[Symbol.dispose]();
    throw error;
  }
}

type Handlers = Pick<Bun.Serve.Options<SocketData>, never> & {
  readonly fetch: (request: Request, server: Server<SocketData>) => Promise<Response | undefined>;
  readonly websocket: Bun.WebSocketHandler<SocketData>;
  readonly tls?: { readonly cert: string; readonly key: string };
};

function listen(address: WebAddress, handlers: Handlers) {
  try {
    if (address.kind === 'tcp') {
      const { hostname, port } = address;
      return { server: Bun.serve({ hostname, port, ...handlers }), path: undefined };
    }
    let server: Server<SocketData> | undefined;
    const path = placeSocket(address.path, (unix) => {
      server = Bun.serve({ unix, ...handlers } as never);
    });
    process.on('exit', path.remove);
    return { server: server!, path };
  } catch (error) {
    if (error instanceof VoltError) throw error;
    const where = address.kind === 'tcp' ? nameOf(address.hostname, address.port) : address.path;
    throw new VoltError(
      'host',
      `Cannot listen at ${where}: ${(error as Error).message.split('\n')[0]}; use a free port of an address of this host`,
      { cause: error },
    );
  }
}

/** Looks are dropped for a page that does not read them; events and lists are small. */
function isFor(message: ToPage, socket: PageSocket): boolean {
  const isBehind = socket.getBufferedAmount() > MAX_UNREAD_BYTES;
  if (message.type === 'look') return socket.data.session?.watched === message.guest && !isBehind;
  return !isBehind;
}

function nameOf(hostname: string, port: number): string {
  return `${hostname.includes(':') ? `[${hostname}]` : hostname}:${port}`;
}

/** By what names a browser may know the address. */
function hostsOf({ hostname, isLoopback }: Extract<WebAddress, { kind: 'tcp' }>, port: number) {
  const names = [nameOf(hostname, port), ...(isLoopback ? [`localhost:${port}`] : [])];
  return /^(0\.0\.0\.0|::)$/.test(hostname) ? ('any' as const) : names;
}

function answer(status: number, text: string, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(text === '' ? null : `volt web: ${text}\n`, {
    status,
    headers: { 'content-type': 'text/plain; charset=utf-8', ...COMMON_HEADERS, ...headers },
  });
}
