/** What a pool says of itself: whoever connects to its second socket gets one line of JSON. */
import * as v from 'valibot';
import { OwnedFd } from '../../ffi/file.ts';
import { waitForSocket } from '../../ffi/socket-fds.ts';
import { connectStream, receiveBytes } from '../../ffi/unix-stream.ts';
import { VoltError } from '../../volt-error.ts';
import { placeSocket, type SocketFile } from '../control/socket-file.ts';
import type { PoolStatus } from './pool.ts';

const SUFFIX = '.status';
const MAX_BYTES = 2 ** 20;
const ANSWER_MS = 5000;
const PIECE_BYTES = 4096;

const PIDS = v.pipe(v.array(v.pipe(v.number(), v.integer())), v.maxLength(65_536));
const COUNT = v.pipe(v.number(), v.integer(), v.minValue(0));
const STATUS = v.object({
  pid: COUNT,
  socket: v.pipe(v.string(), v.maxLength(4096)),
  size: COUNT,
  idle: PIDS,
  starting: PIDS,
  guests: PIDS,
  taken: COUNT,
  lost: COUNT,
});

/** Serves `status` beside the pool's socket at `path` until the returned object is disposed of. */
export function servePoolStatus(path: string, status: () => PoolStatus): Disposable {
  let listener: Bun.UnixSocketListener<undefined> | undefined;
  let file: SocketFile;
  try {
    file = placeSocket(`${path}${SUFFIX}`, (at) => {
      listener = Bun.listen<undefined>({
        unix: at,
        socket: { open: (socket) => void socket.end(`${JSON.stringify(status())}\n`), data: () => {} },
      });
    });
  } catch (error) {
    listener?.stop(true);
    throw error;
  }
  process.on('exit', file.remove);
  const dispose = () => {
    process.off('exit', file.remove);
    file.remove();
    listener?.stop(true);
  };
  return { [Symbol.dispose]: dispose };
}

/** The status of the pool whose socket is at `path`. Throws VoltError 'host'. */
export function readPoolStatus(path: string): PoolStatus {
  const fail = (found: string) =>
    new VoltError('host', `Cannot read the status of the pool at ${path}: ${found}; start one: volt pool`);
  const fd = connectStream(`${path}${SUFFIX}`);
  if (fd < 0) throw fail('no pool of yours runs there');
  using connection = new OwnedFd(fd);
  const status = v.safeParse(STATUS, parseJson(receiveLine(connection.fd)));
  if (!status.success) throw fail('its answer is no status');
  return status.output;
}

/** Up to the end of the stream, or what has come in ANSWER_MS. */
function receiveLine(fd: number): string {
  const deadline = performance.now() + ANSWER_MS;
  const piece = new Uint8Array(PIECE_BYTES);
  let text = '';
  while (text.length < MAX_BYTES && waitForSocket(fd, false, deadline - performance.now())) {
    const got = receiveBytes(fd, piece, piece.length);
    if (got <= 0) break;
    text += Buffer.from(piece.subarray(0, got)).toString('latin1');
  }
  return text;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
