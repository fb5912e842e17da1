/**
 * A TCP server for one guest: requests in, answers out, over a link that loses nothing but what the guest has no room for.
 * It keeps one request at a time of a connection, sends within the guest's window, and sends again what is not
 * acknowledged. (RFC 9293; Firecracker, docs/mmds/mmds-design.md)
 */
import { buildTcp, TCP_FLAG, type TcpSegment } from './frames.ts';

const MAX_CONNECTIONS = 30;
/** A guest that leaves more connections idle loses the oldest of those that were idle for so long. */
const IDLE_MS = 40_000;
/** Longest request; also the window. */
const WINDOW_BYTES = 2500;
const DEFAULT_SEGMENT_BYTES = 536;
/** Ethernet's, less the headers of IPv4 and TCP. */
const MAX_SEGMENT_BYTES = 1460;
const RESEND_MS = 1200;
const MAX_RESENDS = 15;

export interface TcpServerEffects {
  /** Sends a frame to the guest. */
  send(frame: Uint8Array): void;
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
  /** A random u32, for the first sequence number. */
  random(): number;
}

export interface TcpServerOptions {
  readonly mac: Uint8Array;
  readonly address: number;
  readonly port: number;
  /**
   * The answer to the first request in `bytes`, and the bytes that it takes; undefined while it is incomplete.
   */
  readonly answer: (
    bytes: Uint8Array,
  ) => { readonly taken: number; readonly response: Uint8Array } | undefined;
}

interface Connection {
  readonly key: number;
  readonly peer: Pick<TcpSegment, 'sourceMac' | 'sourceAddress' | 'sourcePort'>;
  readonly segmentBytes: number;
  established: boolean;
  /** Next byte that the guest sends. */
  receiveNext: number;
  input: Uint8Array;
  /** The guest has sent its FIN. */
  inputEnded: boolean;
  /** First byte that is not acknowledged; `output` starts there. */
  sendUna: number;
  /** Bytes of `output`, and of the FIN behind it, that were sent. */
  sent: number;
  output: Uint8Array;
  finQueued: boolean;
  window: number;
  lastSegment: number;
  resends: number;
  cancelTimer: (() => void) | undefined;
}

export class TcpServer {
  readonly #effects: TcpServerEffects;
  readonly #options: TcpServerOptions;
  readonly #connections = new Map<number, Connection>();

  constructor(options: TcpServerOptions, effects: TcpServerEffects) {
    this.#options = options;
    this.#effects = effects;
  }

  /** Forgets all connections. */
  reset(): void {
    for (const connection of this.#connections.values()) connection.cancelTimer?.();
    this.#connections.clear();
  }

  receive(segment: TcpSegment): void {
    if (segment.destinationPort !== this.#options.port) return this.#refuse(segment);
    const key = segment.sourceAddress * 0x1_0000 + segment.sourcePort;
    const connection = this.#connections.get(key);
    if (!connection) return this.#accept(segment, key);
    connection.lastSegment = this.#effects.now();
    if (segment.flags & TCP_FLAG.rst) {
      // Only the exact next byte proves that the reset is the peer's. (RFC 5961 §3)
      if (segment.sequence === connection.receiveNext) this.#drop(connection);
      return;
    }
    if (segment.flags & TCP_FLAG.syn) {
      // Its SYN-ACK was lost.
      if (!connection.established) this.#sendSynAck(connection);
      return;
    }
    if (segment.flags & TCP_FLAG.ack) this.#acknowledged(connection, segment);
    if (this.#connections.get(key) !== connection) return;
    this.#take(connection, segment);
    this.#serve(connection);
  }

  #accept(segment: TcpSegment, key: number): void {
    const { flags } = segment;
    if (flags & TCP_FLAG.rst) return;
    if (!(flags & TCP_FLAG.syn) || flags & TCP_FLAG.ack || !this.#makeRoom()) return this.#refuse(segment);
    const { sourceMac, sourceAddress, sourcePort } = segment;
    const wanted = segment.segmentBytes ?? DEFAULT_SEGMENT_BYTES;
    const connection: Connection = {
      key,
      peer: { sourceMac, sourceAddress, sourcePort },
      segmentBytes: Math.max(1, Math.min(wanted, MAX_SEGMENT_BYTES)),
      established: false,
      receiveNext: add(segment.sequence, 1),
      input: new Uint8Array(),
      inputEnded: false,
      sendUna: this.#effects.random() >>> 0,
      sent: 1,
      output: new Uint8Array(),
      finQueued: false,
      window: segment.window,
      lastSegment: this.#effects.now(),
      resends: 0,
      cancelTimer: undefined,
    };
    this.#connections.set(key, connection);
    this.#sendSynAck(connection);
  }

  /** False when all connections are in use. */
  #makeRoom(): boolean {
    if (this.#connections.size < MAX_CONNECTIONS) return true;
    const [oldest] = [...this.#connections.values()].sort((a, b) => a.lastSegment - b.lastSegment);
    if (this.#effects.now() - oldest!.lastSegment < IDLE_MS) return false;
    this.#drop(oldest!);
    return true;
  }

  #drop(connection: Connection): void {
    connection.cancelTimer?.();
    this.#connections.delete(connection.key);
  }

  #acknowledged(connection: Connection, { acknowledgement, window }: TcpSegment): void {
    const acked = difference(acknowledgement, connection.sendUna);
    if (acked > connection.sent) return this.#send(connection, TCP_FLAG.ack);
    connection.window = window;
    if (acked === 0) return;
    connection.resends = 0;
    connection.sendUna = acknowledgement;
    connection.sent -= acked;
    if (!connection.established) {
      connection.established = true;
    } else {
      const isEnd = acked > connection.output.length;
      connection.output = connection.output.subarray(Math.min(acked, connection.output.length));
      if (isEnd) return this.#drop(connection);
    }
    connection.cancelTimer?.();
    connection.cancelTimer = undefined;
    if (connection.sent > 0) this.#startTimer(connection);
  }

  /** Takes the part of a segment's bytes that comes next, as far as there is room. */
  #take(connection: Connection, { sequence, payload, flags }: TcpSegment): void {
    if (connection.inputEnded) {
      if (payload.length > 0 || flags & TCP_FLAG.fin) this.#send(connection, TCP_FLAG.ack);
      return;
    }
    const skipped = difference(connection.receiveNext, sequence);
    const isFin = (flags & TCP_FLAG.fin) !== 0;
    if (payload.length === 0 && !isFin) return;
    // An earlier byte is a repetition, a later one follows something that was lost; both get the same ACK.
    if (skipped <= payload.length) {
      const room = WINDOW_BYTES - connection.input.length;
      const fresh = payload.subarray(skipped, skipped + room);
      connection.input = concat(connection.input, fresh);
      connection.receiveNext = add(connection.receiveNext, fresh.length);
      if (isFin && skipped + fresh.length === payload.length) {
        connection.receiveNext = add(connection.receiveNext, 1);
        connection.inputEnded = true;
      }
    }
    this.#send(connection, TCP_FLAG.ack);
  }

  #serve(connection: Connection): void {
    while (connection.output.length === 0 && !connection.finQueued) {
      const result = this.#options.answer(connection.input);
      if (!result) break;
      connection.input = connection.input.slice(result.taken);
      connection.output = result.response;
    }
    if (connection.output.length === 0 && connection.input.length >= WINDOW_BYTES) {
      // A request that does not end.
      this.#send(connection, TCP_FLAG.rst | TCP_FLAG.ack);
      return this.#drop(connection);
    }
    if (connection.inputEnded && connection.output.length === 0) connection.finQueued = true;
    this.#sendOutput(connection);
  }

  /** Sends what the guest's window has room for, and the FIN behind it. */
  #sendOutput(connection: Connection): void {
    const { output, segmentBytes } = connection;
    while (connection.sent < output.length) {
      const room = connection.window - connection.sent;
      const bytes = Math.min(segmentBytes, output.length - connection.sent, room);
      if (bytes <= 0) break;
      const payload = output.subarray(connection.sent, connection.sent + bytes);
      this.#send(connection, TCP_FLAG.ack | TCP_FLAG.psh, payload);
      connection.sent += bytes;
    }
    if (connection.finQueued && connection.sent === output.length) {
      this.#send(connection, TCP_FLAG.ack | TCP_FLAG.fin);
      connection.sent++;
    }
    if (connection.sent > 0 || connection.output.length > 0) this.#startTimer(connection);
  }

  #startTimer(connection: Connection): void {
    connection.cancelTimer ??= this.#effects.after(RESEND_MS, () => this.#resend(connection));
  }

  #resend(connection: Connection): void {
    connection.cancelTimer = undefined;
    if (++connection.resends > MAX_RESENDS) {
      this.#send(connection, TCP_FLAG.rst | TCP_FLAG.ack);
      return this.#drop(connection);
    }
    if (!connection.established) return this.#sendSynAck(connection);
    connection.sent = 0;
    // A closed window is probed by one byte.
    if (connection.window === 0) connection.window = 1;
    this.#sendOutput(connection);
    this.#startTimer(connection);
  }

  #sendSynAck(connection: Connection): void {
    connection.sent = 0;
    this.#send(connection, TCP_FLAG.syn | TCP_FLAG.ack, undefined, MAX_SEGMENT_BYTES);
    connection.sent = 1;
    this.#startTimer(connection);
  }

  #send(connection: Connection, flags: number, payload?: Uint8Array, segmentBytes?: number): void {
    const { mac, address, port } = this.#options;
    const { peer, input } = connection;
    this.#effects.send(
      buildTcp({
        fromMac: mac,
        toMac: peer.sourceMac,
        fromAddress: address,
        toAddress: peer.sourceAddress,
        fromPort: port,
        toPort: peer.sourcePort,
        sequence: add(connection.sendUna, connection.sent),
        acknowledgement: connection.receiveNext,
        flags,
        window: WINDOW_BYTES - input.length,
        segmentBytes,
        payload,
      }),
    );
  }

  /** A reset for a segment of no connection. (RFC 9293 §3.10.7.1) */
  #refuse(segment: TcpSegment): void {
    if (segment.flags & TCP_FLAG.rst) return;
    const { mac, address } = this.#options;
    const hasAck = (segment.flags & TCP_FLAG.ack) !== 0;
    const length =
      segment.payload.length +
      (segment.flags & TCP_FLAG.syn ? 1 : 0) +
      (segment.flags & TCP_FLAG.fin ? 1 : 0);
    this.#effects.send(
      buildTcp({
        fromMac: mac,
        toMac: segment.sourceMac,
        fromAddress: address,
        toAddress: segment.sourceAddress,
        fromPort: segment.destinationPort,
        toPort: segment.sourcePort,
        sequence: hasAck ? segment.acknowledgement : 0,
        acknowledgement: hasAck ? 0 : add(segment.sequence, length),
        flags: hasAck ? TCP_FLAG.rst : TCP_FLAG.rst | TCP_FLAG.ack,
        window: 0,
      }),
    );
  }
}

/** Sequence numbers are modulo 2^32. */
function add(sequence: number, bytes: number): number {
  return (sequence + bytes) >>> 0;
}

/** How far `a` is behind `b`; a number ahead of it is huge. */
function difference(a: number, b: number): number {
  return (a - b) >>> 0;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
