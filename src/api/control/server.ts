/**
 * The control socket of a running VM: a Unix socket that its owner alone can connect to, speaking the protocol of
 * protocol.ts. docs/control.md documents it.
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
   * Removes the socket, answers requests under way and ends all connections, within about a second. Give the target
   * time to tell its listeners that it ended first.
   */
  close(): Promise<void>;
}

/**
 * Makes a running guest findable by `volt ps`: opens its control socket at `path`, or without one at the default path
 * of this process, where in either case it is listed. Throws VoltError 'host'.
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

/** Serves `target` at `path`, which only this call knows of. Throws VoltError 'host' when that cannot be. */
export function serveControl(target: ControlTarget, path: string): ControlServer {
  const context: SessionContext = {
    dispatch: createDispatch(target),
    onEvent: (listener) => target.onEvent(listener),
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
  // Whatever way this process ends, short of a SIGKILL.
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
    // A client that has said all it wants, `nc -N` say, still gets its answers.
    allowHalfOpen: true,
    socket: {
      open(socket) {
        socket.data = new ClientSession(socket, context);
        if (sessions.size >= MAX_CLIENTS && !closeIdlest(sessions)) {
          socket.data.refuse(`Cannot serve more than ${MAX_CLIENTS} clients (expected one to leave first)`);
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
  // Being steerable keeps nothing alive.
  listener.unref();
  return listener;
}

/** Closes the client that has been idle for the longest, so that a flood of silent ones keeps nobody out. */
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
