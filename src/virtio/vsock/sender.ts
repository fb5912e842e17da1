/** Packets to the guest: fills the receive queue of a socket device. (Virtual I/O Device 1.2 §5.10.6) */
import type { DeviceContext } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { BUF_ALLOC_BYTES, type VsockConnection } from './connection.ts';
import type { VsockConnections } from './connections.ts';
import { STREAM_RESULT, type VsockEffects } from './effects.ts';
import {
  HOST_CID,
  VSOCK_HEADER as H,
  VSOCK_OP as OP,
  VSOCK_QUEUE as Q,
  VSOCK_SHUTDOWN,
  VSOCK_TYPE_STREAM,
} from './regs.ts';

const PACKETS_AT_ONCE = 256;

export class VsockSender {
  readonly #guestCid: number;
  readonly #effects: VsockEffects;
  readonly #connections: VsockConnections;
  readonly #chain = new Chain();
  readonly #vector = new IoVector(MAX_PIECES);
  readonly #header = new Uint8Array(H.size);
  readonly #headerView = new DataView(this.#header.buffer);

  constructor(guestCid: number, effects: VsockEffects, connections: VsockConnections) {
    this.#guestCid = guestCid;
    this.#effects = effects;
    this.#connections = connections;
  }

  /** Sends packets while some are due and the guest has receive buffers. */
  send(context: DeviceContext): void {
    const queue = context.queues[Q.receive];
    if (!queue) return;
    const chain = this.#chain;
    let sent = 0;
    while (this.#connections.hasPackets) {
      const next = queue.next(chain);
      if (next === NEXT.broken)
        return context.fail('its receive queue has an invalid ring or descriptor chain');
      if (next === NEXT.none) {
        if (queue.enableNotifications()) continue;
        break;
      }
      queue.disableNotifications();
      if (chain.firstWritable > 0 || chain.writableBytes <= H.size)
        return context.fail('its receive queue has a read-only buffer, or one without room for data');
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

  /** Writes one packet into the chain. Returns its bytes, or 0 when no connection has one after all. */
  #fill(context: DeviceContext, chain: Chain): number {
    const reset = this.#connections.nextReset();
    if (reset) {
      this.#putHeader(context, chain, reset.guestPort, reset.hostPort, OP.reset, reset.type);
      return H.size;
    }
    for (const connection of this.#connections.due) {
      this.#connections.takeDue(connection);
      const bytes = this.#fillFrom(context, chain, connection);
      this.#connections.updateDue(connection);
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
        context.ram.markVectorWritten(this.#vector, bytes);
        this.#put(context, chain, connection, OP.data, bytes);
        connection.countSent(bytes);
        return H.size + bytes;
      }
    }
    if (connection.shutdownDue !== 0) {
      connection.shutdownSent |= connection.shutdownDue;
      connection.shutdownDue = 0;
      const isComplete = connection.shutdownSent === VSOCK_SHUTDOWN.bothBits;
      if (isComplete) this.#connections.startTimeout(connection);
      return this.#put(context, chain, connection, OP.shutdown, 0, connection.shutdownSent);
    }
    if (connection.creditRequestDue) {
      connection.creditRequestDue = false;
      return this.#put(context, chain, connection, OP.creditRequest);
    }
    if (connection.creditUpdateDue) return this.#put(context, chain, connection, OP.creditUpdate);
    return 0;
  }

  /** Reads from the stream into the chain, after the space for the header. Returns the bytes read. */
  #readInto(chain: Chain, connection: VsockConnection): number {
    const room = Math.min(chain.writableBytes - H.size, connection.guestCredit);
    this.#vector.clear();
    this.#vector.addBuffers(chain, 0, chain.count, H.size);
    this.#vector.truncate(room);
    const bytes = this.#effects.read(connection.stream, this.#vector);
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
    connection.markCreditReported();
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
    header.setUint32(H.bufferAlloc, BUF_ALLOC_BYTES, true);
    header.setUint32(H.forwardCount, forwarded, true);
    chain.copyIn(context.ram, 0, this.#header);
  }
}
