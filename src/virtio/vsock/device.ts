/**
 * The socket device: streams between ports of the guest and of the host. (Virtual I/O Device 1.2 §5.10)
 *
 * What a guest can make us keep is bounded: connections by number, bytes of each by the credit it was given, resets
 * by not taking its packets while too many wait.
 */
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { connectionKey, RECEIVE_WINDOW_BYTES, VsockConnection } from './connection.ts';
import { STREAM_RESULT, type VsockHost } from './host.ts';
import {
  HOST_CID,
  VSOCK_CONFIG,
  VSOCK_HEADER as H,
  VSOCK_OP as OP,
  VSOCK_QUEUE as Q,
  VSOCK_SHUTDOWN,
  VSOCK_TYPE_STREAM,
} from './regs.ts';

export const MAX_CONNECTIONS = 1023;
const QUEUE_SIZE = 256;
const MAX_RESETS = 256;
const PACKETS_AT_ONCE = 256;
/** How long a guest has to answer a connection, or a goodbye. */
const PATIENCE_MS = 2000;
/** Ports that the host's connections come from; those below are for people to name. */
const FIRST_HOST_PORT = 2 ** 30;
const LAST_HOST_PORT = 2 ** 31 - 1;

export function describeVsock(guestCid: number): DeviceDescription {
  const config = new Uint8Array(VSOCK_CONFIG.size);
  new DataView(config.buffer).setUint32(VSOCK_CONFIG.guestCid, guestCid, true);
  return { type: DEVICE_TYPE.vsock, features: [], queueSizes: [QUEUE_SIZE, QUEUE_SIZE, 16], config };
}

interface Reset {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly type: number;
}

export class VsockDevice implements VirtioDevice {
  readonly #guestCid: number;
  readonly #host: VsockHost;
  readonly #connections = new Map<string, VsockConnection>();
  readonly #byStream = new Map<number, VsockConnection>();
  /** Connections with something for the guest, in turn. */
  readonly #due = new Set<VsockConnection>();
  #resets: Reset[] = [];
  #context: DeviceContext | undefined;
  #nextHostPort = FIRST_HOST_PORT;
  #cancelTimer: (() => void) | undefined;
  readonly #receiveChain = new Chain();
  readonly #transmitChain = new Chain();
  readonly #vector = new IoVector(MAX_PIECES);
  readonly #header = new Uint8Array(H.size);
  readonly #headerView = new DataView(this.#header.buffer);

  constructor(guestCid: number, host: VsockHost) {
    this.#guestCid = guestCid;
    this.#host = host;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  reset(): void {
    for (const connection of this.#byStream.values()) this.#close(connection);
    this.#connections.clear();
    this.#byStream.clear();
    this.#due.clear();
    this.#resets = [];
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#context = undefined;
  }

  processQueue(queue: number): void {
    if (queue === Q.receive) this.#sendDue();
    if (queue !== Q.event) this.#takePackets();
  }

  /** Somebody on the host wants to reach a port of the guest by this stream. False: it cannot be served. */
  connectGuest(stream: number, guestPort: number): boolean {
    if (!this.#context || this.#byStream.size >= MAX_CONNECTIONS) return false;
    const connection = new VsockConnection(guestPort, this.#freeHostPort(guestPort), stream, true);
    this.#add(connection);
    this.#giveUpLater(connection);
    this.#sendDue();
    return true;
  }

  /** What a stream is ready for changed. */
  streamReady(stream: number, readable: boolean, writable: boolean, hungUp: boolean): void {
    const connection = this.#byStream.get(stream);
    if (!connection) return;
    if (readable || hungUp) connection.readable = true;
    if (hungUp && !connection.hungUp) {
      connection.hungUp = true;
      // What a guest will not receive need not be read.
      if (connection.guestStopped) connection.ended = true;
      if (connection.ended) connection.shutdownDue = VSOCK_SHUTDOWN.bothBits & ~connection.shutdownSent;
    }
    if (writable && connection.waitingBytes > 0) this.#writeWaiting(connection);
    this.#noteDue(connection);
    this.#sendDue();
  }

  // From the guest

  #takePackets(): void {
    const context = this.#context;
    const queue = context?.queues[Q.transmit];
    if (!context || !queue || this.#cancelTimer) return;
    const chain = this.#transmitChain;
    let left = PACKETS_AT_ONCE;
    do {
      queue.disableNotifications();
      // A guest that takes no answers is not asked for more questions.
      while (this.#resets.length < MAX_RESETS) {
        if (left-- === 0) {
          this.#cancelTimer = this.#host.after(0, () => {
            this.#cancelTimer = undefined;
            this.#takePackets();
          });
          context.interrupt(Q.transmit);
          this.#sendDue();
          return;
        }
        const next = queue.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail('its transmit queue makes no sense');
        this.#takePacket(context, chain);
        queue.pushUsed(chain.id, 0);
        context.count(Q.transmit, chain.readableBytes, 0);
      }
      context.interrupt(Q.transmit);
      this.#sendDue();
      if (!this.#context || this.#resets.length >= MAX_RESETS) return;
    } while (queue.enableNotifications());
  }

  #takePacket(context: DeviceContext, chain: Chain): void {
    if (chain.copyOut(context.ram, 0, this.#header) < H.size) return;
    const header = this.#headerView;
    const addressed =
      header.getUint32(H.sourceCid, true) === this.#guestCid &&
      header.getUint32(H.sourceCid + 4, true) === 0 &&
      header.getUint32(H.destinationCid, true) === HOST_CID &&
      header.getUint32(H.destinationCid + 4, true) === 0;
    if (!addressed) return;
    const guestPort = header.getUint32(H.sourcePort, true);
    const hostPort = header.getUint32(H.destinationPort, true);
    const type = header.getUint16(H.type, true);
    const operation = header.getUint16(H.operation, true);
    const connection = this.#connections.get(connectionKey(guestPort, hostPort));
    if (operation === OP.reset) {
      if (connection) this.#guestReset(connection);
      return;
    }
    if (type !== VSOCK_TYPE_STREAM) return this.#refuse(guestPort, hostPort, type);
    if (operation === OP.request) return this.#guestRequest(connection, guestPort, hostPort);
    if (!connection) return this.#refuse(guestPort, hostPort, type);
    connection.learnCredit(header.getUint32(H.bufferAlloc, true), header.getUint32(H.forwardCount, true));
    switch (operation) {
      case OP.response:
        this.#guestResponse(connection);
        break;
      case OP.shutdown:
        this.#guestShutdown(connection, header.getUint32(H.flags, true));
        break;
      case OP.data:
        this.#guestData(context, connection, chain, header.getUint32(H.length, true));
        break;
      case OP.creditRequest:
        connection.creditUpdateDue = true;
        break;
      case OP.creditUpdate:
        break;
      default:
        return this.#kill(connection);
    }
    this.#noteDue(connection);
  }

  #guestRequest(before: VsockConnection | undefined, guestPort: number, hostPort: number): void {
    if (before) return this.#kill(before);
    if (this.#byStream.size >= MAX_CONNECTIONS) return this.#refuse(guestPort, hostPort);
    const stream = this.#host.connect(hostPort);
    if (stream < 0) return this.#refuse(guestPort, hostPort);
    const connection = new VsockConnection(guestPort, hostPort, stream, false);
    const header = this.#headerView;
    connection.learnCredit(header.getUint32(H.bufferAlloc, true), header.getUint32(H.forwardCount, true));
    this.#add(connection);
  }

  #guestResponse(connection: VsockConnection): void {
    if (!connection.connecting || connection.requestDue) return this.#kill(connection);
    connection.connecting = false;
    connection.cancelTimer?.();
    connection.cancelTimer = undefined;
    const line = Buffer.from(`OK ${connection.hostPort}\n`);
    if (this.#host.writeBytes(connection.stream, line) !== line.length) this.#kill(connection);
  }

  #guestShutdown(connection: VsockConnection, flags: number): void {
    if (connection.connecting) return this.#kill(connection);
    connection.guestShutdown |= flags & VSOCK_SHUTDOWN.bothBits;
    this.#afterWriting(connection);
  }

  /** The guest has forgotten the connection; what it sent before it ended still arrives. */
  #guestReset(connection: VsockConnection): void {
    this.#connections.delete(connection.key);
    this.#due.delete(connection);
    const saidGoodbye = connection.guestShutdown & VSOCK_SHUTDOWN.sendBit;
    if (!saidGoodbye || connection.waitingBytes === 0) this.#forget(connection);
  }

  #guestData(context: DeviceContext, connection: VsockConnection, chain: Chain, bytes: number): void {
    const fits = bytes <= chain.readableBytes - H.size && connection.allows(bytes);
    const over = connection.connecting || (connection.guestShutdown & VSOCK_SHUTDOWN.sendBit) !== 0;
    if (!fits || over) return this.#kill(connection);
    let written = 0;
    if (connection.waitingBytes === 0 && bytes > 0) {
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.firstWritable, H.size);
      this.#vector.truncate(bytes);
      written = this.#host.write(connection.stream, this.#vector);
      if (written === STREAM_RESULT.failed) return this.#streamFailed(connection);
      if (written < 0) written = 0;
      connection.forwarded(written);
    }
    if (written === bytes) return;
    const rest = new Uint8Array(bytes - written);
    chain.copyOut(context.ram, H.size + written, rest);
    connection.keep(rest);
  }

  #writeWaiting(connection: VsockConnection): void {
    while (connection.waiting.length > 0) {
      const written = this.#host.writeBytes(connection.stream, connection.waiting[0]!);
      if (written === STREAM_RESULT.failed) return this.#streamFailed(connection);
      if (written <= 0) return;
      connection.took(written);
    }
    this.#afterWriting(connection);
  }

  /** Hands a shutdown of the guest on, once all that it sent before was written. */
  #afterWriting(connection: VsockConnection): void {
    if (connection.waitingBytes > 0) return;
    if (connection.guestShutdown === VSOCK_SHUTDOWN.bothBits) this.#kill(connection);
    else if (connection.guestShutdown & VSOCK_SHUTDOWN.sendBit) this.#host.endWriting(connection.stream);
  }

  /** Nobody reads the stream any more. What can still be read from it comes first. */
  #streamFailed(connection: VsockConnection): void {
    connection.hungUp = true;
    connection.readable = true;
    connection.took(connection.waitingBytes);
    if (!this.#connections.has(connection.key)) this.#forget(connection);
    else if (connection.guestShutdown === VSOCK_SHUTDOWN.bothBits || connection.ended) this.#kill(connection);
  }

  // To the guest

  #sendDue(): void {
    const context = this.#context;
    const queue = context?.queues[Q.receive];
    if (!context || !queue) return;
    const chain = this.#receiveChain;
    let sent = 0;
    while (this.#resets.length > 0 || this.#due.size > 0) {
      const next = queue.next(chain);
      if (next === NEXT.broken) return context.fail('its receive queue makes no sense');
      if (next === NEXT.none) {
        if (queue.enableNotifications()) continue;
        break;
      }
      queue.disableNotifications();
      if (chain.firstWritable > 0 || chain.writableBytes <= H.size)
        return context.fail('its receive queue has buffers that nothing can be received into');
      const bytes = this.#fill(context, chain);
      if (bytes === 0) {
        queue.undoNext();
        break;
      }
      queue.pushUsed(chain.id, bytes);
      context.count(Q.receive, 0, bytes);
      if (++sent === PACKETS_AT_ONCE) {
        context.interrupt(Q.receive);
        sent = 0;
      }
    }
    if (sent > 0) context.interrupt(Q.receive);
  }

  /** Puts one packet into the chain; returns its bytes, 0 when nobody has anything to say after all. */
  #fill(context: DeviceContext, chain: Chain): number {
    const reset = this.#resets.shift();
    if (reset) {
      this.#putHeader(context, chain, reset.guestPort, reset.hostPort, OP.reset, reset.type);
      return H.size;
    }
    for (const connection of this.#due) {
      // To the end of the line.
      this.#due.delete(connection);
      const bytes = this.#fillFrom(context, chain, connection);
      this.#noteDue(connection);
      if (bytes > 0) return bytes;
    }
    return 0;
  }

  #fillFrom(context: DeviceContext, chain: Chain, connection: VsockConnection): number {
    if (connection.requestDue) {
      connection.requestDue = false;
      return this.#put(context, chain, connection, OP.request);
    }
    if (connection.responseDue) {
      connection.responseDue = false;
      return this.#put(context, chain, connection, OP.response);
    }
    if (connection.connecting) return 0;
    if (connection.mayRead) {
      const bytes = this.#readInto(chain, connection);
      if (bytes > 0) {
        this.#put(context, chain, connection, OP.data, bytes);
        connection.sent(bytes);
        return H.size + bytes;
      }
    }
    if (connection.shutdownDue !== 0) {
      connection.shutdownSent |= connection.shutdownDue;
      connection.shutdownDue = 0;
      const over = connection.shutdownSent === VSOCK_SHUTDOWN.bothBits;
      if (over) this.#giveUpLater(connection);
      return this.#put(context, chain, connection, OP.shutdown, 0, connection.shutdownSent);
    }
    if (connection.creditRequestDue) {
      connection.creditRequestDue = false;
      return this.#put(context, chain, connection, OP.creditRequest);
    }
    if (connection.creditUpdateDue) return this.#put(context, chain, connection, OP.creditUpdate);
    return 0;
  }

  /** Reads behind where the header goes. */
  #readInto(chain: Chain, connection: VsockConnection): number {
    const room = Math.min(chain.writableBytes - H.size, connection.guestCredit);
    this.#vector.clear();
    this.#vector.addBuffers(chain, 0, chain.count, H.size);
    this.#vector.truncate(room);
    const bytes = this.#host.read(connection.stream, this.#vector);
    if (bytes > 0) return bytes;
    connection.readable = false;
    if (bytes === STREAM_RESULT.wouldBlock) return 0;
    connection.ended = true;
    if (bytes === STREAM_RESULT.failed) connection.hungUp = true;
    connection.shutdownDue = connection.hungUp ? VSOCK_SHUTDOWN.bothBits : VSOCK_SHUTDOWN.sendBit;
    return 0;
  }

  #put(
    context: DeviceContext,
    chain: Chain,
    connection: VsockConnection,
    operation: number,
    bytes = 0,
    flags = 0,
  ): number {
    const { guestPort, hostPort, forwardedCount } = connection;
    connection.toldGuest();
    this.#putHeader(
      context,
      chain,
      guestPort,
      hostPort,
      operation,
      VSOCK_TYPE_STREAM,
      bytes,
      flags,
      forwardedCount,
    );
    return H.size;
  }

  #putHeader(
    context: DeviceContext,
    chain: Chain,
    guestPort: number,
    hostPort: number,
    operation: number,
    type: number,
    bytes = 0,
    flags = 0,
    forwarded = 0,
  ): void {
    const header = this.#headerView;
    this.#header.fill(0);
    header.setUint32(H.sourceCid, HOST_CID, true);
    header.setUint32(H.destinationCid, this.#guestCid, true);
    header.setUint32(H.sourcePort, hostPort, true);
    header.setUint32(H.destinationPort, guestPort, true);
    header.setUint32(H.length, bytes, true);
    header.setUint16(H.type, type, true);
    header.setUint16(H.operation, operation, true);
    header.setUint32(H.flags, flags, true);
    header.setUint32(H.bufferAlloc, RECEIVE_WINDOW_BYTES, true);
    header.setUint32(H.forwardCount, forwarded, true);
    chain.copyIn(context.ram, 0, this.#header);
  }

  // Connections

  #add(connection: VsockConnection): void {
    this.#connections.set(connection.key, connection);
    this.#byStream.set(connection.stream, connection);
    this.#noteDue(connection);
  }

  #noteDue(connection: VsockConnection): void {
    if (this.#connections.get(connection.key) !== connection) return;
    if (connection.due) this.#due.add(connection);
    else this.#due.delete(connection);
  }

  #refuse(guestPort: number, hostPort: number, type: number = VSOCK_TYPE_STREAM): void {
    this.#resets.push({ guestPort, hostPort, type });
  }

  /** Ends a connection on both sides, now. */
  #kill(connection: VsockConnection): void {
    if (this.#connections.get(connection.key) === connection) {
      this.#connections.delete(connection.key);
      this.#refuse(connection.guestPort, connection.hostPort);
    }
    this.#due.delete(connection);
    this.#forget(connection);
  }

  #forget(connection: VsockConnection): void {
    if (!this.#byStream.delete(connection.stream)) return;
    this.#close(connection);
  }

  #close(connection: VsockConnection): void {
    connection.cancelTimer?.();
    this.#host.close(connection.stream);
  }

  #giveUpLater(connection: VsockConnection): void {
    connection.cancelTimer?.();
    connection.cancelTimer = this.#host.after(PATIENCE_MS, () => {
      this.#kill(connection);
      this.#sendDue();
    });
  }

  #freeHostPort(guestPort: number): number {
    let port: number;
    do {
      port = this.#nextHostPort;
      this.#nextHostPort = port === LAST_HOST_PORT ? FIRST_HOST_PORT : port + 1;
    } while (this.#connections.has(connectionKey(guestPort, port)));
    return port;
  }
}
