/** Starts a guest in a process of a pool, and waits for it as if it were this one. */
import { readFileSync, statSync } from 'node:fs';
import type { Socket } from 'bun';
import { OwnedFd } from '../../ffi/file.ts';
import { isOpen } from '../../ffi/pool-socket.ts';
import { sendWithFds, waitForSocket } from '../../ffi/socket-fds.ts';
import { peerCredentials } from '../../ffi/unix-socket.ts';
import { isTerminal } from '../../ffi/terminal.ts';
import { connectStream, receiveBytes, sendBytes } from '../../ffi/unix-stream.ts';
import { executableId } from './process-context.ts';
import { decodeAnswer, encodeRequest, MAX_ANSWER_BYTES, REQUEST_FDS, type PoolAnswer } from './protocol.ts';

/** An idle process answers within a millisecond or two, and one that is just being started within a tenth of a second. */
const ANSWER_MS = 2000;
const STDIN = 0;
const NEWLINE = 0x0a;
const STDIO = Array.from({ length: REQUEST_FDS }, (_, fd) => fd);

/** The process of a pool that runs the guest. */
export interface PooledGuest {
  readonly pid: number;
  /** On which the exit code comes. */
  readonly connection: OwnedFd;
}

/**
 * Has the command line run by an idle process of the pool at `path`, with this process's descriptors, environment and
 * directory. undefined: no process can stand in for this one, and nothing has been started.
 */
export function startPooled(path: string, words: readonly string[]): PooledGuest | undefined {
  // Job control is about the process that has the terminal.
  if (isTerminal(STDIN) || namesDescriptor(words) || !STDIO.every(isOpen)) return undefined;
  const fd = connectStream(path);
  if (fd < 0) return undefined;
  const connection = new OwnedFd(fd);
  const pid = request(fd, words);
  if (pid !== undefined) return { pid, connection };
  connection.close();
  return undefined;
}

function request(fd: number, words: readonly string[]): number | undefined {
  // Anybody can listen in /tmp; environment and terminal are for this user's own processes only.
  if (peerCredentials(fd)?.uid !== process.getuid?.()) return undefined;
  const env = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== undefined));
  const bytes = encodeRequest({ words, env: env as Record<string, string>, executable: executableId() });
  let done = sendWithFds(fd, bytes, STDIO);
  while (done > 0 && done < bytes.length) {
    if (!waitForSocket(fd, true, ANSWER_MS)) return undefined;
    const sent = sendBytes(fd, bytes.subarray(done));
    if (sent <= 0) return undefined;
    done += sent;
  }
  if (done !== bytes.length || !waitForSocket(fd, false, ANSWER_MS)) return undefined;
  const line = new Uint8Array(MAX_ANSWER_BYTES);
  const got = receiveBytes(fd, line, line.length);
  const answer = got > 0 ? decodeAnswer(line.subarray(0, got)) : undefined;
  if (answer?.kind !== 'ready') return undefined;
  return sendBytes(fd, Uint8Array.of(NEWLINE)) === 1 ? answer.pid : undefined;
}

/** A path of a descriptor, such as a shell's <(command): in another process it would be another file, or none. */
const DESCRIPTOR_PATH = /\/(dev\/fd|proc\/[^/]+(\/task\/[^/]+)?\/fd)\//;

function namesDescriptor(words: readonly string[]): boolean {
  const configs = words.flatMap((word, i) => {
    if (word === '--config') return words[i + 1] ?? [];
    return word.startsWith('--config=') ? word.slice('--config='.length) : [];
  });
  return [...words, ...configs.map(textOf)].some((text) => DESCRIPTOR_PATH.test(text));
}

/** Empty where it cannot be read, which the process that reads it reports, or is no file: a FIFO is read once. */
function textOf(path: string): string {
  try {
    return statSync(path).isFile() ? readFileSync(path, 'latin1') : '';
  } catch {
    return '';
  }
}

/** Resolves with the exit code of the guest's process; undefined: it was killed together with its pool. */
export function awaitPooled({ connection }: PooledGuest): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  let text = Buffer.alloc(0);
  let code: number | undefined;
  const note = (answer: PoolAnswer | undefined) => {
    if (answer?.kind === 'exit') code ??= answer.code;
  };
  // bun-types declare the option `fd` but not in the signatures of connect.
  const options = {
    fd: connection.fd,
    socket: {
      data(_: Socket<undefined>, bytes: Uint8Array) {
        text = Buffer.concat([text, bytes]);
        for (let end = text.indexOf(NEWLINE); end >= 0; end = text.indexOf(NEWLINE)) {
          note(decodeAnswer(text.subarray(0, end)));
          text = text.subarray(end + 1);
        }
      },
      close: () => resolve(code),
    },
  } as unknown as Bun.UnixSocketOptions<undefined>;
  void Bun.connect(options);
  return promise;
}
