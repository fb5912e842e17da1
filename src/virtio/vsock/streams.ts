/**
 * The host's side of the socket device, by Firecracker's protocol. A client connects to one Unix socket and
 * sends `CONNECT <port>\n`; the answer is `OK <host port>\n`. The guest's own connections go to
 * `PATH_<port>`.
 */
import type { IoVector } from '../transport/io-vector.ts';
import { STREAM_RESULT, type VsockEffects } from './effects.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { readVector, writeVector } from '../../ffi/tap.ts';
import {
  acceptStream,
  closeStream,
  connectStream,
  shutdownWrites,
  receiveBytes,
  sendBytes,
} from '../../ffi/unix-stream.ts';
import type { EventSources } from '../host/serve-device.ts';

const ALL_EVENTS = EPOLL.in | EPOLL.out | EPOLL.edge;
/** Fits `CONNECT 4294967295\n` with spare white space; the same limit as Firecracker's. */
const MAX_COMMAND_BYTES = 32;
/** Clients that may be connected without having sent their command. */
const MAX_PENDING = 64;
/** Clients accepted before other events are handled, such as the commands of earlier ones. */
const MAX_ACCEPTED = 16;
/** Delay before accepting again when this process is out of file descriptors. */
const ACCEPT_RETRY_MS = 100;

interface StreamUser {
  connectGuest(stream: number, guestPort: number): boolean;
  streamReady(stream: number, readable: boolean, writable: boolean, hungUp: boolean): void;
}

export class VsockStreams implements VsockEffects {
  readonly #path: string;
  readonly #listener: number;
  readonly #events: EventSources;
  /** Clients that have not sent their command yet. */
  readonly #pending = new Set<number>();
  readonly #command = Buffer.alloc(MAX_COMMAND_BYTES);
  #cancelRetry: (() => void) | undefined;
  /** Receives stream events; undefined while there is no driver. */
  #user: StreamUser | undefined;

  constructor(path: string, listener: number, events: EventSources) {
    this.#path = path;
    this.#listener = listener;
    this.#events = events;
  }

  /** Accepts connections, including those that wait already. */
  start(user: StreamUser): void {
    this.#user = user;
    this.#events.watch(this.#listener, EPOLL.in | EPOLL.edge, () => this.#accept());
  }

  /** Stops accepting; new connections wait for the next start. */
  stop(): void {
    this.#user = undefined;
    this.#events.unwatch(this.#listener);
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    for (const fd of [...this.#pending]) this.#drop(fd);
  }

  connect(port: number): number {
    const fd = connectStream(`${this.#path}_${port}`);
    if (fd >= 0) this.#watchStream(fd);
    return fd;
  }

  read(stream: number, target: IoVector): number {
    return resultOf(readVector(stream, target.words, target.first, target.count));
  }

  write(stream: number, source: IoVector): number {
    return resultOf(writeVector(stream, source.words, source.first, source.count));
  }

  writeBytes(stream: number, bytes: Uint8Array): number {
    return resultOf(sendBytes(stream, bytes));
  }

  endWriting(stream: number): void {
    shutdownWrites(stream);
  }

  close(stream: number): void {
    this.#events.unwatch(stream);
    closeStream(stream);
  }

  after(delayMs: number, handler: () => void): () => void {
    return this.#events.after(delayMs, handler);
  }

  #watchStream(fd: number): void {
    this.#events.watch(fd, ALL_EVENTS, (events) =>
      this.#user?.streamReady(
        fd,
        (events & EPOLL.in) !== 0,
        (events & EPOLL.out) !== 0,
        (events & (EPOLL.hangUp | EPOLL.error)) !== 0,
      ),
    );
  }

  #accept(): void {
    for (let accepted = 0; this.#user; accepted++) {
      if (accepted === MAX_ACCEPTED) {
        this.#cancelRetry = this.#events.after(0, () => this.#accept());
        return;
      }
      const fd = acceptStream(this.#listener);
      if (fd === -ERRNO.EAGAIN) return;
      if (fd < 0) {
        this.#cancelRetry = this.#events.after(ACCEPT_RETRY_MS, () => this.#accept());
        return;
      }
      // Disconnects the oldest, so that a flood of silent clients cannot lock others out.
      if (this.#pending.size >= MAX_PENDING) this.#drop(this.#pending.values().next().value!);
      this.#pending.add(fd);
      this.#events.watch(fd, EPOLL.in | EPOLL.edge, () => this.#readCommand(fd));
    }
  }

  /** Consumes exactly the command line; the bytes after it are for the guest. */
  #readCommand(fd: number): void {
    const got = receiveBytes(fd, this.#command, MAX_COMMAND_BYTES, true);
    if (got === -ERRNO.EAGAIN) return;
    const end = got > 0 ? this.#command.subarray(0, got).indexOf(0x0a) : -1;
    if (end < 0) {
      if (got <= 0 || got === MAX_COMMAND_BYTES) this.#drop(fd);
      return;
    }
    receiveBytes(fd, this.#command, end + 1);
    // Firecracker splits the line at white space.
    const match = /^\s*connect\s+(\d{1,10})\s*$/i.exec(this.#command.toString('latin1', 0, end));
    const port = match ? Number(match[1]) : Infinity;
    if (port > 0xffff_ffff) return this.#drop(fd);
    this.#pending.delete(fd);
    this.#events.unwatch(fd);
    this.#watchStream(fd);
    if (!this.#user?.connectGuest(fd, port)) this.close(fd);
  }

  #drop(fd: number): void {
    this.#pending.delete(fd);
    this.close(fd);
  }
}

function resultOf(done: number): number {
  if (done >= 0) return done;
  return done === -ERRNO.EAGAIN || done === -ERRNO.EINTR ? STREAM_RESULT.wouldBlock : STREAM_RESULT.failed;
}
