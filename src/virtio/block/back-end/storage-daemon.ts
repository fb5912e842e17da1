/**
 * Starts qemu-storage-daemon, and starts it again when it has ended. In its sandbox Volt can start no program and
 * connect to nothing. So a shell, which was started before, starts the daemon for each line that Volt sends it, and Volt
 * has connections in reserve, which wait in the backlog of the daemon's listening socket. The shell ends with Volt.
 */
import { createConnectedListener } from '../../../ffi/connected-listener.ts';
import type { OwnedFd } from '../../../ffi/file.ts';
import { POLL, pollFd } from '../../../ffi/poll.ts';
import { waitForSocket } from '../../../ffi/socket-fds.ts';
import { createHelperSocket } from '../../../ffi/socket-pair.ts';
import { receiveBytes, sendBytes } from '../../../ffi/unix-stream.ts';
import { createHelperOutput } from '../../host/helper-output.ts';
import { START_LINE } from './serve.ts';

export const DAEMON = 'qemu-storage-daemon';
/** The daemon's descriptor after stdin, stdout and stderr. */
export const LISTENER_FD = 3;
/** How often the daemon can be started, the first time included. */
const STARTS = 16;
const POLL_MS = 5;
/** Longer than the shell takes to end a daemon that hangs. */
const END_MS = 12_000;

/**
 * A line on stdin starts "$@" again; at the end of stdin the daemon closes its images, for which it has 10 seconds. Only
 * the first daemon has this stdout: its end says that it has ended.
 */
const SCRIPT = `
start() { "$@" </dev/null & child=$!; }
stop() { kill "$1" "$child"; wait "$child"; } 2>/dev/null
read -r line || exit 0
start "$@"
exec >/dev/null
while read -r line; do stop -KILL; start "$@"; done
{ sleep 10; kill -KILL "$child"; } 2>/dev/null 3<&- &
stop -TERM
kill $! 2>/dev/null
`;

export interface StorageDaemon {
  /** Connections in the order in which the daemon accepts them, one after the end of another. */
  readonly connections: readonly OwnedFd[];
  /** Takes START_LINE. */
  readonly control: OwnedFd;
  /** Its stderr. */
  readonly output: OwnedFd;
  /** Blocks until it answers on the first connection: false if it has ended, or after `ms`. */
  waitReady(ms: number): boolean;
  /** Ends the daemon, and blocks until its images are closed. The first `closed` connections are closed already. */
  close(closed: number): void;
}

/** Starts `program`. Throws an Error where the shell does not start. */
export function startStorageDaemon(program: string, argv: readonly string[]): StorageDaemon {
  using stack = new DisposableStack();
  let alreadyClosed = 0;
  const { listener, connections } = createConnectedListener(STARTS);
  stack.defer(() => connections.slice(alreadyClosed).forEach((connection) => connection.close()));
  const [control, theirControl] = createHelperSocket();
  const [output, stderr] = createHelperOutput();
  const [alive, stdout] = createHelperSocket();
  for (const ours of [control, output, alive]) stack.use(ours);
  try {
    // A session of its own: the terminal's signals are Volt's.
    const command = ['/bin/sh', '-c', SCRIPT, 'sh', program, ...argv];
    const stdio: [number, number, number, number] = [theirControl.fd, stdout.fd, stderr.fd, listener.fd];
    Bun.spawn(command, { stdio, detached: true }).unref();
  } finally {
    for (const theirs of [listener, theirControl, stderr, stdout]) theirs.close();
  }
  sendBytes(control.fd, START_LINE);
  const owned = stack.move();
  return {
    connections,
    control,
    output,
    waitReady(ms) {
      const deadline = performance.now() + ms;
      const isReady = () => pollFd(connections[0]!.fd, POLL.in, 0) > 0;
      while (!isReady()) {
        if (performance.now() > deadline || waitForSocket(alive.fd, false, POLL_MS)) return isReady();
      }
      return true;
    },
    close(closed) {
      alreadyClosed = closed;
      control.close();
      waitForEnd(output.fd);
      owned.dispose();
    },
  };
}

/** Blocks until no process has the other end of `fd` any more. */
function waitForEnd(fd: number): void {
  const deadline = performance.now() + END_MS;
  const rest = new Uint8Array(4096);
  while (waitForSocket(fd, false, deadline - performance.now())) {
    if (receiveBytes(fd, rest, rest.length) === 0) return;
  }
}
