/** The host's side of console ports: a Unix socket with one client at a time, or a file. */
import { PORT_IO, type ConsoleEffects } from './device.ts';
import type { IoVector } from '../transport/io-vector.ts';
import { EPOLL } from '../../ffi/epoll.ts';
import { ERRNO } from '../../ffi/errno.ts';
import { readVector, writeVector } from '../../ffi/tap.ts';
import { acceptStream, closeStream } from '../../ffi/unix-stream.ts';
import type { EventSources } from '../host/serve-device.ts';

/** Connections that are accepted before other events are handled. */
const MAX_ACCEPTED = 16;

export interface ConsolePortStart {
  /** A listening socket, or a file open for append. */
  readonly fd: number;
  readonly kind: 'socket' | 'file';
}

export class ConsolePorts implements ConsoleEffects {
  readonly #ports: readonly ConsolePortStart[];
  readonly #events: EventSources;
  /** Descriptor of each port's client, or -1. */
  readonly #clients: number[];
  #portReady: (port: number) => void = () => {};

  constructor(ports: readonly ConsolePortStart[], events: EventSources) {
    this.#ports = ports;
    this.#events = events;
    this.#clients = ports.map(() => -1);
  }

  /** Accepts clients, whether or not the guest has a driver. */
  start(portReady: (port: number) => void): void {
    this.#portReady = portReady;
    this.#ports.forEach(({ fd, kind }, port) => {
      if (kind === 'socket') this.#events.watch(fd, EPOLL.in | EPOLL.edge, () => this.#accept(port));
    });
  }

  /** Disconnects all clients, before the worker ends. */
  disconnectAll(): void {
    for (const fd of this.#clients) if (fd >= 0) closeStream(fd);
  }

  read(port: number, target: IoVector): number {
    const client = this.#clients[port]!;
    if (client < 0) return PORT_IO.wouldBlock;
    const got = readVector(client, target.words, target.first, target.count);
    if (got > 0) return got;
    if (got === -ERRNO.EAGAIN || got === -ERRNO.EINTR) return PORT_IO.wouldBlock;
    this.#disconnect(port);
    return PORT_IO.wouldBlock;
  }

  /** Bytes are dropped without a client, and when the file cannot be written, as on a serial line. */
  write(port: number, source: IoVector): number {
    const { fd, kind } = this.#ports[port]!;
    if (kind === 'file') {
      writeVector(fd, source.words, source.first, source.count);
      return source.bytes;
    }
    const client = this.#clients[port]!;
    if (client < 0) return source.bytes;
    const sent = writeVector(client, source.words, source.first, source.count);
    if (sent >= 0) return sent;
    if (sent === -ERRNO.EAGAIN || sent === -ERRNO.EINTR) return PORT_IO.wouldBlock;
    this.#disconnect(port);
    return source.bytes;
  }

  isOpen(port: number): boolean {
    return this.#ports[port]!.kind === 'file' || this.#clients[port]! >= 0;
  }

  after(delayMs: number, handler: () => void): () => void {
    return this.#events.after(delayMs, handler);
  }

  #accept(port: number): void {
    for (let accepted = 0; ; accepted++) {
      if (accepted === MAX_ACCEPTED) {
        this.#events.after(0, () => this.#accept(port));
        return;
      }
      const fd = acceptStream(this.#ports[port]!.fd);
      if (fd < 0) return;
      if (this.#clients[port]! >= 0) {
        closeStream(fd);
        continue;
      }
      this.#clients[port] = fd;
      this.#events.watch(fd, EPOLL.in | EPOLL.out | EPOLL.edge, () => this.#portReady(port));
      this.#portReady(port);
    }
  }

  #disconnect(port: number): void {
    const fd = this.#clients[port]!;
    this.#clients[port] = -1;
    this.#events.unwatch(fd);
    closeStream(fd);
    // Deferred: the device may be processing a chain, and must not be re-entered.
    this.#events.after(0, () => this.#portReady(port));
  }
}
