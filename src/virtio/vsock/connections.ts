/**
 * The connections of a socket device, and the packets that are due for its guest.
 *
 * A guest can make Volt hold a bounded amount only: connections are limited in number, the bytes of each by
 * the credit that the guest was given, and resets because its packets are not processed while too many are
 * unsent.
 */
import { connectionKey, type VsockConnection } from './connection.ts';
import type { VsockEffects } from './effects.ts';
import { VSOCK_TYPE_STREAM } from './regs.ts';

export const MAX_CONNECTIONS = 1023;
const MAX_RESETS = 256;
/** Time that a guest has to answer a request or a shutdown. */
const ANSWER_TIMEOUT_MS = 2000;
/** Source ports of connections from the host; lower ones are left for servers. */
export const FIRST_HOST_PORT = 2 ** 30;
export const LAST_HOST_PORT = 2 ** 31 - 1;

/** A reset to send for a connection that no longer exists, or never did. */
export interface Reset {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly type: number;
}

export class VsockConnections {
  readonly #effects: VsockEffects;
  readonly #onTimeout: () => void;
  readonly #byPorts = new Map<string, VsockConnection>();
  /** Also those that the guest has reset, whose last bytes are still being written. */
  readonly #byStream = new Map<number, VsockConnection>();
  /** Connections with a packet for the guest, served round robin. */
  readonly #due = new Set<VsockConnection>();
  #resets: Reset[] = [];
  /**
   * Continues in a restored machine, so that a new connection is never mistaken for one that the guest still
   * has from before.
   */
  nextHostPort = FIRST_HOST_PORT;

  /** `onTimeout` is called when a timeout has reset a connection. */
  constructor(effects: VsockEffects, onTimeout: () => void) {
    this.#effects = effects;
    this.#onTimeout = onTimeout;
  }

  get isFull(): boolean {
    return this.#byStream.size >= MAX_CONNECTIONS;
  }

  /** Too many resets wait for receive buffers. */
  get hasTooManyResets(): boolean {
    return this.#resets.length >= MAX_RESETS;
  }

  get hasPackets(): boolean {
    return this.#resets.length > 0 || this.#due.size > 0;
  }

  /** Connections with a packet for the guest, the one served longest ago first. */
  get due(): ReadonlySet<VsockConnection> {
    return this.#due;
  }

  find(guestPort: number, hostPort: number): VsockConnection | undefined {
    return this.#byPorts.get(connectionKey(guestPort, hostPort));
  }

  findByStream(stream: number): VsockConnection | undefined {
    return this.#byStream.get(stream);
  }

  /** False once the guest has reset the connection. */
  has(connection: VsockConnection): boolean {
    return this.#byPorts.get(connection.key) === connection;
  }

  add(connection: VsockConnection): void {
    this.#byPorts.set(connection.key, connection);
    this.#byStream.set(connection.stream, connection);
    this.updateDue(connection);
  }

  /** To be called after a change of the connection; puts one with a packet at the end of the round. */
  updateDue(connection: VsockConnection): void {
    if (!this.has(connection)) return;
    if (connection.hasPacket) this.#due.add(connection);
    else this.#due.delete(connection);
  }

  /** Takes a connection out of the round, before its packet is sent. */
  takeDue(connection: VsockConnection): void {
    this.#due.delete(connection);
  }

  nextReset(): Reset | undefined {
    return this.#resets.shift();
  }

  refuse(guestPort: number, hostPort: number, type: number = VSOCK_TYPE_STREAM): void {
    this.#resets.push({ guestPort, hostPort, type });
  }

  /** Ends a connection on both sides at once. */
  reset(connection: VsockConnection): void {
    if (this.has(connection)) {
      this.#byPorts.delete(connection.key);
      this.refuse(connection.guestPort, connection.hostPort);
    }
    this.#due.delete(connection);
    this.release(connection);
  }

  /** The guest has ended the connection. Its stream stays until `release`. */
  removeFromGuest(connection: VsockConnection): void {
    this.#byPorts.delete(connection.key);
    this.#due.delete(connection);
  }

  /** Closes the connection's stream, unless it is closed already. */
  release(connection: VsockConnection): void {
    if (!this.#byStream.delete(connection.stream)) return;
    this.#close(connection);
  }

  /** Closes all connections without telling the guest. */
  clear(): void {
    for (const connection of this.#byStream.values()) this.#close(connection);
    this.#byPorts.clear();
    this.#byStream.clear();
    this.#due.clear();
    this.#resets = [];
  }

  /** Resets the connection unless the guest answers in time. */
  startTimeout(connection: VsockConnection): void {
    connection.cancelTimer?.();
    connection.cancelTimer = this.#effects.after(ANSWER_TIMEOUT_MS, () => {
      this.reset(connection);
      this.#onTimeout();
    });
  }

  /** A source port for a connection from the host to `guestPort`. */
  allocateHostPort(guestPort: number): number {
    let port: number;
    do {
      port = this.nextHostPort;
      this.nextHostPort = port === LAST_HOST_PORT ? FIRST_HOST_PORT : port + 1;
    } while (this.find(guestPort, port));
    return port;
  }

  #close(connection: VsockConnection): void {
    connection.cancelTimer?.();
    this.#effects.close(connection.stream);
  }
}
