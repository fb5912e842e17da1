/**
 * The control socket of a running VM: a Unix socket that only its owner and root can connect to, with the
 * protocol of protocol.ts. docs/control.md documents it.
 */
import { createDispatch } from './dispatch.ts';
import { claimEntry, defaultSocketPath } from './directory.ts';
import { ClientSession, type SessionContext } from './session.ts';
import { placeSocket, type SocketFile } from './socket-file.ts';
import type { ControlTarget } from './target.ts';

export const MAX_CLIENTS = 64;

/** An open control socket; closed by `close` or by leaving the block that `await using` it. */
export interface ControlServer extends AsyncDisposable {
  /** Absolute. */
  readonly path: string;
  /**
   * Removes the socket, answers pending requests and closes all connections, within about a second. Call it
   * after the target has emitted `ended`.
   */
  close(): Promise<void>;
}

/**
 * Opens a control socket that `volt ps` lists, at `path` or at the default path of this process. Throws
 * VoltError 'host'.
 */
export function openControl(target: ControlTarget, path?: string): ControlServer {
  if (path === undefined) return serveControl(target, defaultSocketPath(process.pid));
  const server = serveControl(target, path);
  const release = claimEntry(process.pid, server.path);
  const close = () => {
    release();
    return server.close();
  };
  return { path: server.path, close, [Symbol.asyncDispose]: close };
}

/** Serves `target` at `path`, without an entry for `volt ps`. Throws VoltError 'host'. */
export function serveControl(target: ControlTarget, path: string): ControlServer {
  const context: SessionContext = {
    dispatch: createDispatch(target),
    console: () => target.console,
    onEvent: (listener) => target.onEvent(listener),
    attachGdb: (connection) => target.attachGdb(connection),
  };
  const sessions = new Set<ClientSession>();
  let listener: Bun.UnixSocketListener<ClientSession> | undefined;
  let file: SocketFile;
  try {
    file = placeSocket(path, (at) => {
      listener = listen(at, context, sessions);
    });
  } catch (error) {
    listener?.stop(true);
    throw error;
  }
  // On every exit of this process except by SIGKILL.
  process.on('exit', file.remove);
  const close = async () => {
    process.off('exit', file.remove);
    file.remove();
    listener?.stop();
    await Promise.all([...sessions].map((session) => session.finish()));
  };
  return { path: file.path, close, [Symbol.asyncDispose]: close };
}

function listen(
  path: string,
  context: SessionContext,
  sessions: Set<ClientSession>,
): Bun.UnixSocketListener<ClientSession> {
  const listener = Bun.listen<ClientSession>({
    unix: path,
    // A client that has shut down its sending side, such as `nc -N`, still gets its answers.
    allowHalfOpen: true,
    socket: {
      open(socket) {
        socket.data = new ClientSession(socket, context);
        if (sessions.size >= MAX_CLIENTS && !closeIdlest(sessions)) {
          socket.data.refuse(`Cannot serve more than ${MAX_CLIENTS} clients; close another connection first`);
          return;
        }
        sessions.add(socket.data);
      },
      data: (socket, chunk) => socket.data.received(chunk),
      drain: (socket) => socket.data.drained(),
      end: (socket) => socket.data.inputEnded(),
      close(socket) {
        sessions.delete(socket.data);
        socket.data.closed();
      },
      error: (socket) => socket.terminate(),
    },
  });
  // The listener must not keep the process alive.
  listener.unref();
  return listener;
}

/** Closes the client that has been idle for the longest, so that idle connections block no other client. */
function closeIdlest(sessions: Set<ClientSession>): boolean {
  let idlest: ClientSession | undefined;
  for (const session of sessions) {
    const since = session.idleSince;
    if (since !== undefined && since < (idlest?.idleSince ?? Infinity)) idlest = session;
  }
  if (!idlest) return false;
  sessions.delete(idlest);
  idlest.terminate();
  return true;
}
