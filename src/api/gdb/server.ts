/** `--gdb`: gdb attaches on loopback TCP, or at a Unix socket that only its owner and root can connect to. */
import type { Socket } from 'bun';
import type { GdbConnection, GdbSession } from '../../vmm/debug/gdb-session.ts';
import { VoltError } from '../../volt-error.ts';
import { placeSocket } from '../control/socket-file.ts';

/** What a gdb attaches to: a VmControl. */
export interface GdbTarget {
  attachGdb(connection: GdbConnection): Promise<GdbSession>;
}

/** A listener for gdb, open until it is disposed of. */
export interface GdbServer extends Disposable {
  /** What gdb's `target remote` takes: `127.0.0.1:1234`, or the absolute path of the socket. */
  readonly where: string;
  /** Path of the Unix socket; undefined for TCP. */
  readonly path: string | undefined;
}

const LOOPBACK = '127.0.0.1';
const HIGHEST_PORT = 65535;

interface Client {
  session: GdbSession | undefined;
  /** What came before the guest was stopped. */
  readonly early: Uint8Array[];
  isClosed: boolean;
}

type Handler = Bun.SocketHandler<Client>;

/**
 * Listens at `where`: `127.0.0.1:PORT` or `:PORT`, where port 0 takes a free one, or a path with a slash. Throws
 * VoltError 'usage' for anything else, and 'host' for what cannot be opened.
 */
export function openGdb(target: GdbTarget, where: string, say: (line: string) => void): GdbServer {
  return where.includes('/')
    ? listenAtPath(where, handlerOf(target, say))
    : listenAtPort(where, handlerOf(target, say));
}

function listenAtPath(path: string, socket: Handler): GdbServer {
  let listener: Bun.UnixSocketListener<Client> | undefined;
  const file = placeSocket(path, (unix) => {
    listener = Bun.listen<Client>({ unix, socket });
    listener.unref();
  });
  process.on('exit', file.remove);
  const close = () => {
    process.off('exit', file.remove);
    file.remove();
    listener?.stop();
  };
  return { where: file.path, path: file.path, [Symbol.dispose]: close };
}

function listenAtPort(where: string, socket: Handler): GdbServer {
  const match = /^(?:127\.0\.0\.1|localhost)?:(\d{1,5})$/.exec(where);
  const port = Number(match?.[1]);
  if (!match || port > HIGHEST_PORT) {
    throw new VoltError(
      'usage',
      `Cannot use --gdb: "${where}" (expected 127.0.0.1:PORT, :0 for a free port, or a path with a slash; gdb controls the guest, so no other address is served)`,
    );
  }
  try {
    const listener = Bun.listen<Client>({ hostname: LOOPBACK, port, socket });
    listener.unref();
    const close = () => listener.stop();
    return { where: `${LOOPBACK}:${listener.port}`, path: undefined, [Symbol.dispose]: close };
  } catch (error) {
    throw new VoltError(
      'host',
      `Cannot open --gdb at ${where}: ${(error as Error).message.split('\n')[0]}; use a free port`,
      { cause: error },
    );
  }
}

function handlerOf(target: GdbTarget, say: (line: string) => void): Handler {
  return {
    open(socket) {
      socket.data = { session: undefined, early: [], isClosed: false };
      void attach(target, socket, say);
    },
    data({ data }, chunk) {
      if (data.session) data.session.received(chunk);
      else data.early.push(Uint8Array.from(chunk));
    },
    drain: ({ data }) => data.session?.drained(),
    end: (socket) => void socket.end(),
    close({ data }) {
      data.isClosed = true;
      data.session?.closed();
    },
    error: (socket) => socket.terminate(),
  };
}

async function attach(target: GdbTarget, socket: Socket<Client>, say: (line: string) => void): Promise<void> {
  const { data } = socket;
  socket.pause();
  try {
    data.session = await target.attachGdb(socket);
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    socket.end();
    return;
  }
  if (data.isClosed) return data.session.closed();
  for (const chunk of data.early.splice(0)) data.session.received(chunk);
  socket.resume();
}
