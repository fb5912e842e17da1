/** An idle process of a pool: waits for a caller that it can stand in for, and takes its place. */
import { closeSync } from 'node:fs';
import { OwnedFd } from '../../ffi/file.ts';
import { libc } from '../../ffi/libc.ts';
import { hasHungUp } from '../../ffi/poll.ts';
import {
  awaitConnection,
  closeOnExecute,
  endWithParent,
  endWithPeer,
  outliveParent,
  parentId,
} from '../../ffi/pool-socket.ts';
import { receiveWithFds } from '../../ffi/receive-fds.ts';
import { setDisposition } from '../../ffi/signal.ts';
import { createSocketPair } from '../../ffi/socket-pair.ts';
import { sendWithFds, waitForSocket } from '../../ffi/socket-fds.ts';
import { peerCredentials } from '../../ffi/unix-socket.ts';
import { receiveBytes, sendBytes } from '../../ffi/unix-stream.ts';
import { restartTimelines } from '../../vmm/timeline.ts';
import { joinCgroupOf } from './join-cgroup.ts';
import {
  CGROUP,
  executableId,
  firstDifference,
  readCgroup,
  readInherited,
  SECCOMP,
  type InheritedState,
} from './process-context.ts';
import {
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  HEADER,
  REQUEST_FDS,
  requestBytes,
  type PoolAnswer,
  type PoolRequest,
} from './protocol.ts';

/** Descriptors that the pool gives its processes. */
const POOL_FD = { listener: 3, handover: 4 } as const;
/** What an idle process writes to stdout, which the pool reads until the process is taken. */
export const IDLE_LINE = { ready: 'ready\n', taken: 'taken\n', refused: 'refused ' } as const;

const STDOUT = 1;
/** A client sends all of its request at once, and confirms as soon as it has the answer. */
const CLIENT_MS = 5000;
const ORDINARY_SIGNALS = 31;
const UNCHANGEABLE_SIGNALS: readonly number[] = [9, 19];
const EXIT_MASK = 0xff;

/** Call it before anything that takes long: the process ends with the pool from here on. */
export function followPool(poolId: number): void {
  for (const fd of Object.values(POOL_FD)) closeOnExecute(fd);
  endWithParent();
  if (parentId() !== poolId) process.exit(0);
}

/**
 * Blocks until a client has started a guest: this process then has its directory, descriptors, environment and
 * command line. False: the pool has ended.
 */
export function takeCaller(): boolean {
  rehearseRequest();
  say(IDLE_LINE.ready);
  for (;;) {
    const fd = awaitConnection(POOL_FD.listener);
    if (fd === undefined) return false;
    const connection = new OwnedFd(fd);
    const outcome = serveClient(connection);
    if (outcome === 'taken') return true;
    connection.close();
    if (outcome === 'spoilt') return false;
  }
}

/** What a caller has to wait for, once on a socket of this process's own. */
function rehearseRequest(): void {
  const [ours, theirs] = createSocketPair(true);
  using _ours = ours;
  using _theirs = theirs;
  sendWithFds(ours.fd, encodeRequest({ words: [], env: {}, executable: executableId() }), [0, 1, 2]);
  const received = receiveRequest(theirs.fd);
  for (const each of received?.fds ?? []) closeSync(each);
  firstDifference(readInherited(process.pid).context, inherited().context);
}

let own: InheritedState | undefined;

/** Of this process, read while it is idle; only its cgroup is changed by others. */
function inherited(): InheritedState {
  own ??= readInherited('self');
  return { ...own, context: { ...own.context, [CGROUP]: readCgroup('self') } };
}

type Outcome = 'taken' | 'idle' | 'spoilt';

/** `spoilt`: the process has changed for this client, who is gone. */
function serveClient(connection: OwnedFd): Outcome {
  const { fd } = connection;
  const received = receiveRequest(fd);
  if (!received) return 'idle';
  const { request, fds } = received;
  try {
    const caller = peerCredentials(fd);
    if (!caller || caller.pid <= 0 || caller.uid !== process.getuid?.())
      return refuse(fd, 'another user, or a process that is not visible here');
    if (request.executable !== undefined && request.executable !== executableId())
      return refuse(fd, 'different executable');
    const theirs = readOrUndefined(caller.pid);
    if (!theirs) return refuse(fd, 'the caller cannot be looked at in /proc');
    const ours = inherited();
    const difference = firstDifference(
      { ...ours.context, [CGROUP]: '' },
      { ...theirs.context, [CGROUP]: '' },
    );
    if (difference !== undefined) return refuse(fd, `different ${difference}`);
    if (!enterDirectoryOf(caller.pid)) return refuse(fd, 'its working directory cannot be entered');
    const moves = ours.context[CGROUP] !== theirs.context[CGROUP];
    if (moves && ours.context[SECCOMP] !== '0') return refuse(fd, 'different cgroup');
    if (moves && !joinCgroupOf(theirs.context[CGROUP]!)) {
      const why = 'different cgroup, which this process may not join';
      refuse(fd, why);
      return readCgroup('self') === ours.context[CGROUP] ? 'idle' : 'spoilt';
    }
    if (!send(fd, { kind: 'ready', pid: process.pid }) || !awaitByte(fd)) {
      process.chdir('/');
      return moves ? 'spoilt' : 'idle';
    }
    adopt(connection, request, fds, { ours, theirs });
    return 'taken';
  } finally {
    for (const each of fds) closeSync(each);
  }
}

function adopt(
  connection: OwnedFd,
  { words, env }: PoolRequest,
  fds: readonly number[],
  { ours, theirs }: { readonly ours: InheritedState; readonly theirs: InheritedState },
): void {
  const { fd } = connection;
  outliveParent();
  // The pool reports a process that ends without saying so itself.
  sendWithFds(POOL_FD.handover, Buffer.from('\n'), [fd]);
  say(IDLE_LINE.taken);
  fds.forEach((from, to) => libc.dup2(from, to));
  for (const each of Object.values(POOL_FD)) closeSync(each);
  process.umask(theirs.umask);
  for (let signal = 1; signal <= ORDINARY_SIGNALS; signal++) {
    const bit = 1n << BigInt(signal - 1);
    const ignored = (theirs.ignoredSignals & bit) !== 0n;
    if (ignored === ((ours.ignoredSignals & bit) !== 0n) || UNCHANGEABLE_SIGNALS.includes(signal)) continue;
    setDisposition(signal, ignored ? 'ignored' : 'default');
  }
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, env);
  process.argv.splice(2, Infinity, ...words);
  process.on('exit', (code) => send(fd, { kind: 'exit', code: code & EXIT_MASK }));
  endWithPeer(fd);
  if (hasHungUp(fd)) process.exit(0);
  restartTimelines();
}

interface ReceivedRequest {
  readonly request: PoolRequest;
  /** stdin, stdout and stderr; the caller owns them. */
  readonly fds: readonly number[];
}

function receiveRequest(fd: number): ReceivedRequest | undefined {
  const deadline = performance.now() + CLIENT_MS;
  const header = new Uint8Array(HEADER.size);
  if (!waitForSocket(fd, false, CLIENT_MS)) return undefined;
  const { bytes, fds, truncated } = receiveWithFds(fd, header, REQUEST_FDS);
  const length = bytes === HEADER.size && !truncated ? requestBytes(header) : undefined;
  const body = length === undefined ? undefined : receiveAll(fd, length, deadline);
  const request = body && decodeRequest(body);
  if (request && fds.length === REQUEST_FDS) return { request, fds };
  for (const each of fds) closeSync(each);
  return undefined;
}

function receiveAll(fd: number, length: number, deadline: number): Uint8Array | undefined {
  const body = new Uint8Array(length);
  for (let done = 0; done < length;) {
    if (!waitForSocket(fd, false, Math.max(0, deadline - performance.now()))) return undefined;
    const rest = body.subarray(done);
    const got = receiveBytes(fd, rest, rest.length);
    if (got <= 0) return undefined;
    done += got;
  }
  return body;
}

function awaitByte(fd: number): boolean {
  return waitForSocket(fd, false, CLIENT_MS) && receiveBytes(fd, new Uint8Array(1), 1) === 1;
}

function refuse(fd: number, why: string): 'idle' {
  send(fd, { kind: 'refused', why });
  say(`${IDLE_LINE.refused}${why}\n`);
  return 'idle';
}

function send(fd: number, answer: PoolAnswer): boolean {
  const bytes = encodeAnswer(answer);
  return sendBytes(fd, bytes) === bytes.length;
}

function readOrUndefined(pid: number): InheritedState | undefined {
  try {
    return readInherited(pid);
  } catch {
    return undefined;
  }
}

function enterDirectoryOf(pid: number): boolean {
  try {
    process.chdir(`/proc/${pid}/cwd`);
    return true;
  } catch {
    return false;
  }
}

function say(line: string): void {
  const bytes = Buffer.from(line);
  libc.write(STDOUT, bytes, bytes.length);
}
