/**
 * Restores in processes that are up: one of Volt's pool, and a Firecracker whose API socket is open. Both get their request
 * from this process over a Unix socket, and print to a socket that it waits for.
 */
import { join } from 'node:path';
import { decodeAnswer, encodeRequest, MAX_ANSWER_BYTES } from '../src/api/pool/protocol.ts';
import { readPoolStatus } from '../src/api/pool/status.ts';
import { OwnedFd } from '../src/ffi/file.ts';
import { createSocketPair } from '../src/ffi/socket-pair.ts';
import { sendWithFds, waitForSocket } from '../src/ffi/socket-fds.ts';
import { connectStream, receiveBytes, sendBytes } from '../src/ffi/unix-stream.ts';

const HANG_MS = 60_000;
const POLL_MS = 5;

export interface BenchPool extends AsyncDisposable {
  /** A guest of the pool, whose output is drained until it is ended. Milliseconds from the request to its first byte. */
  restoreMs(words: readonly string[]): Promise<number>;
}

/** One idle process at a time, so that nothing else runs while it is measured. */
export async function startPool(program: string, folder: string): Promise<BenchPool> {
  const child = Bun.spawn([program, 'pool', folder, '--size', '1'], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  const socket = join(folder, 'pool.sock');
  const isReady = () => {
    try {
      return readPoolStatus(socket).idle.length > 0;
    } catch {
      return false;
    }
  };
  await until('an idle process of the pool', isReady);
  return {
    async restoreMs(words) {
      await until('an idle process of the pool', isReady);
      return requestMs(socket, words);
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await child.exited;
    },
  };
}

async function requestMs(path: string, words: readonly string[]): Promise<number> {
  const [output, theirs] = createSocketPair(false);
  using _output = output;
  const bytes = encodeRequest({ words, env: { PATH: process.env['PATH'] ?? '' } });
  const start = performance.now();
  using connection = new OwnedFd(connectStream(path));
  sendWithFds(connection.fd, bytes, [theirs.fd, theirs.fd, theirs.fd]);
  const answer = receiveAnswer(connection.fd);
  if (answer?.kind !== 'ready') throw new Error(`Cannot measure the pool: ${JSON.stringify(answer)}`);
  sendBytes(connection.fd, Uint8Array.of(0));
  const ms = awaitByte(output.fd, start);
  theirs.close();
  // Closing the connection ends the guest.
  connection.close();
  await until('the end of the guest', () => !isAlive(answer.pid));
  return ms;
}

function receiveAnswer(fd: number) {
  const line = new Uint8Array(MAX_ANSWER_BYTES);
  waitForSocket(fd, false, HANG_MS);
  const got = receiveBytes(fd, line, line.length);
  return got > 0 ? decodeAnswer(line.subarray(0, got)) : undefined;
}

/** `command` has `--api-sock SOCKET`; `body` is that of PUT /snapshot/load. */
export function firecrackerRestoreMs(
  command: readonly string[],
  socket: string,
  body: object,
): Promise<number> {
  return requestedStartMs(command, socket, [], ['/snapshot/load', body]);
}

/** A path and the body that is PUT there. */
export type ApiPut = readonly [path: string, body: object];

/** Sends `before`, and `start`, with which a guest begins to print: milliseconds from that to its first byte. */
export async function requestedStartMs(
  command: readonly string[],
  socket: string,
  before: readonly ApiPut[],
  start: ApiPut,
): Promise<number> {
  const [output, theirs] = createSocketPair(false);
  using _output = output;
  const child = Bun.spawn([...command], { stdio: ['ignore', theirs.fd, 'ignore'] });
  try {
    await until('the API socket', () => {
      const fd = connectStream(socket);
      if (fd >= 0) new OwnedFd(fd).close();
      return fd >= 0;
    });
    for (const each of before) {
      using connection = new OwnedFd(connectStream(socket));
      sendBytes(connection.fd, formatPut(each));
      waitForSocket(connection.fd, false, HANG_MS);
    }
    const request = formatPut(start);
    const from = performance.now();
    using connection = new OwnedFd(connectStream(socket));
    sendBytes(connection.fd, request);
    return awaitByte(output.fd, from);
  } finally {
    theirs.close();
    child.kill('SIGKILL');
    await child.exited;
  }
}

function formatPut([path, body]: ApiPut): Uint8Array {
  const text = JSON.stringify(body);
  const head = `PUT ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
  return Buffer.from(`${head}Content-Length: ${text.length}\r\n\r\n${text}`);
}

function awaitByte(fd: number, start: number): number {
  if (!waitForSocket(fd, false, HANG_MS))
    throw new Error('Cannot measure it: the guest printed nothing (expected a guest that prints)');
  return performance.now() - start;
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + HANG_MS;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`Cannot measure it: ${what} did not come`);
    await Bun.sleep(POLL_MS);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
