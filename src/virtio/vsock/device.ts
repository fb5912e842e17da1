/** The socket device: connects guest ports with streams of the host. (Virtual I/O Device 1.2 §5.10) */
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { VsockConnection } from './connection.ts';
import { FIRST_HOST_PORT, LAST_HOST_PORT, VsockConnections } from './connections.ts';
import { STREAM_RESULT, type VsockEffects } from './effects.ts';
import {
  HOST_CID,
  VSOCK_CONFIG,
  VSOCK_EVENT,
  VSOCK_EVENT_TRANSPORT_RESET,
  VSOCK_HEADER as H,
  VSOCK_OP as OP,
  VSOCK_QUEUE as Q,
  VSOCK_SHUTDOWN,
  VSOCK_TYPE_STREAM,
} from './regs.ts';
import { VsockSender } from './sender.ts';

const QUEUE_SIZE = 256;
const PACKETS_AT_ONCE = 256;

/** Features, queues and configuration space. (§5.10.2 to §5.10.4) */
export function describeVsock(guestCid: number): DeviceDescription {
  const config = new Uint8Array(VSOCK_CONFIG.size);
  new DataView(config.buffer).setUint32(VSOCK_CONFIG.guestCid, guestCid, true);
  return {
    type: DEVICE_TYPE.vsock,
    features: [],
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE, 16],
    config,
    stateWords: [{ name: 'nextHostPort', min: FIRST_HOST_PORT, max: LAST_HOST_PORT }],
  };
}

const STATE_WORD = { nextHostPort: 0 } as const;

export class VsockDevice implements VirtioDevice {
  readonly #guestCid: number;
  readonly #effects: VsockEffects;
  readonly #connections: VsockConnections;
  readonly #sender: VsockSender;
  #context: DeviceContext | undefined;
  #cancelTimer: (() => void) | undefined;
  /** The driver is to be told that all connections are gone. */
  #resetEventDue = false;
  readonly #chain = new Chain();
  readonly #vector = new IoVector(MAX_PIECES);
  readonly #header = new Uint8Array(H.size);
  readonly #headerView = new DataView(this.#header.buffer);

  constructor(guestCid: number, effects: VsockEffects) {
    this.#guestCid = guestCid;
    this.#effects = effects;
    this.#connections = new VsockConnections(effects, () => this.#sendDue());
    this.#sender = new VsockSender(guestCid, effects, this.#connections);
  }

  activate(context: DeviceContext): void {
    this.#context = context;
  }

  reset(): void {
    this.#connections.clear();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#resetEventDue = false;
    this.#context = undefined;
  }

  save(words: Int32Array): void {
    words[STATE_WORD.nextHostPort] = this.#connections.nextHostPort;
  }

  /** The host's ends of the saved connections are elsewhere or gone. */
  restore(words: Int32Array): void {
    this.#connections.nextHostPort = words[STATE_WORD.nextHostPort]!;
    this.#resetEventDue = true;
    this.#sendResetEvent();
  }

  processQueue(queue: number): void {
    if (queue === Q.event) return this.#sendResetEvent();
    if (queue === Q.receive) this.#sendDue();
    this.#processPackets();
  }

  /** The event stays due until the driver has a buffer for it. (§5.10.6.7) */
  #sendResetEvent(): void {
    const context = this.#context;
    const queue = context?.queues[Q.event];
    if (!context || !queue || !this.#resetEventDue) return;
    const chain = this.#chain;
    let next = queue.next(chain);
    if (next === NEXT.none && queue.enableNotifications()) next = queue.next(chain);
    if (next === NEXT.none) return;
    if (next === NEXT.broken || chain.firstWritable > 0 || chain.writableBytes < VSOCK_EVENT.size)
      return context.fail('its event queue has an invalid ring, or a read-only or too short buffer');
    this.#resetEventDue = false;
    this.#headerView.setUint32(0, VSOCK_EVENT_TRANSPORT_RESET, true);
    chain.copyIn(context.ram, 0, this.#header, 0, VSOCK_EVENT.size);
    queue.pushUsed(chain.id, VSOCK_EVENT.size);
    context.count(Q.event, 0, VSOCK_EVENT.size);
    context.interrupt(Q.event);
  }

  /** Connects a stream of the host to a guest port. False when that is not possible now. */
  connectGuest(stream: number, guestPort: number): boolean {
    if (!this.#context || this.#connections.isFull) return false;
    const connection = new VsockConnection(
      guestPort,
      this.#connections.allocateHostPort(guestPort),
      stream,
      true,
    );
    this.#connections.add(connection);
    this.#connections.startTimeout(connection);
    this.#sendDue();
    return true;
  }

  /** The readiness of a stream changed. */
  streamReady(stream: number, readable: boolean, writable: boolean, hungUp: boolean): void {
    const connection = this.#connections.findByStream(stream);
    if (!connection) return;
    if (readable || hungUp) connection.readable = true;
    if (hungUp && !connection.hungUp) {
      connection.hungUp = true;
      // The guest receives no more data, so the stream need not be read to its end.
      if (connection.guestStopped) connection.ended = true;
      if (connection.ended) connection.shutdownDue = VSOCK_SHUTDOWN.bothBits & ~connection.shutdownSent;
    }
    if (writable && connection.backlogBytes > 0) this.#writeBacklog(connection);
    this.#connections.updateDue(connection);
    this.#sendDue();
  }

  #processPackets(): void {
    const context = this.#context;
    const queue = context?.queues[Q.transmit];
    if (!context || !queue || this.#cancelTimer) return;
    const chain = this.#chain;
    let left = PACKETS_AT_ONCE;
    do {
      queue.disableNotifications();
      // A guest that does not receive its resets gets no more packets processed, which would cause more.
      while (!this.#connections.hasTooManyResets) {
        if (left-- === 0) {
          this.#cancelTimer = this.#effects.after(0, () => {
            this.#cancelTimer = undefined;
            this.#processPackets();
          });
          context.interrupt(Q.transmit);
          this.#sendDue();
          return;
        }
        const next = queue.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return context.fail('its transmit queue has an invalid ring or descriptor chain');
        this.#processPacket(context, chain);
        queue.pushUsed(chain.id, 0);
        context.count(Q.transmit, chain.readableBytes, 0);
      }
      context.interrupt(Q.transmit);
      this.#sendDue();
      if (!this.#context || this.#connections.hasTooManyResets) return;
    } while (queue.enableNotifications());
  }

  #processPacket(context: DeviceContext, chain: Chain): void {
    if (chain.copyOut(context.ram, 0, this.#header) < H.size) return;
    const header = this.#headerView;
    const isForHost =
      header.getUint32(H.sourceCid, true) === this.#guestCid &&
      header.getUint32(H.sourceCid + 4, true) === 0 &&
      header.getUint32(H.destinationCid, true) === HOST_CID &&
      header.getUint32(H.destinationCid + 4, true) === 0;
    if (!isForHost) return;
    const guestPort = header.getUint32(H.sourcePort, true);
    const hostPort = header.getUint32(H.destinationPort, true);
    const type = header.getUint16(H.type, true);
    const operation = header.getUint16(H.operation, true);
    const connection = this.#connections.find(guestPort, hostPort);
    if (operation === OP.reset) {
      if (connection) this.#guestReset(connection);
      return;
    }
    if (type !== VSOCK_TYPE_STREAM) return this.#connections.refuse(guestPort, hostPort, type);
    if (operation === OP.request) return this.#guestRequest(connection, guestPort, hostPort);
    if (!connection) return this.#connections.refuse(guestPort, hostPort, type);
    connection.updateCredit(header.getUint32(H.bufferAlloc, true), header.getUint32(H.forwardCount, true));
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
        return this.#connections.reset(connection);
    }
    this.#connections.updateDue(connection);
  }

  #guestRequest(existing: VsockConnection | undefined, guestPort: number, hostPort: number): void {
    if (existing) return this.#connections.reset(existing);
    if (this.#connections.isFull) return this.#connections.refuse(guestPort, hostPort);
    const stream = this.#effects.connect(hostPort);
    if (stream < 0) return this.#connections.refuse(guestPort, hostPort);
    const connection = new VsockConnection(guestPort, hostPort, stream, false);
    const header = this.#headerView;
    connection.updateCredit(header.getUint32(H.bufferAlloc, true), header.getUint32(H.forwardCount, true));
    this.#connections.add(connection);
  }

  #guestResponse(connection: VsockConnection): void {
    if (!connection.connecting || connection.requestDue) return this.#connections.reset(connection);
    connection.connecting = false;
    connection.cancelTimer?.();
    connection.cancelTimer = undefined;
    const line = Buffer.from(`OK ${connection.hostPort}\n`);
    if (this.#effects.writeBytes(connection.stream, line) !== line.length)
      this.#connections.reset(connection);
  }

  #guestShutdown(connection: VsockConnection, flags: number): void {
    if (connection.connecting) return this.#connections.reset(connection);
    connection.guestShutdown |= flags & VSOCK_SHUTDOWN.bothBits;
    this.#afterWriting(connection);
  }

  /** The guest has dropped the connection; data that it sent before a shutdown is still delivered. */
  #guestReset(connection: VsockConnection): void {
    this.#connections.removeFromGuest(connection);
    const wasShutDown = connection.guestShutdown & VSOCK_SHUTDOWN.sendBit;
    if (!wasShutDown || connection.backlogBytes === 0) this.#connections.release(connection);
  }

  #guestData(context: DeviceContext, connection: VsockConnection, chain: Chain, bytes: number): void {
    const fits = bytes <= chain.readableBytes - H.size && connection.hasCreditFor(bytes);
    const isClosed = connection.connecting || (connection.guestShutdown & VSOCK_SHUTDOWN.sendBit) !== 0;
    if (!fits || isClosed) return this.#connections.reset(connection);
    let written = 0;
    if (connection.backlogBytes === 0 && bytes > 0) {
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.firstWritable, H.size);
      this.#vector.truncate(bytes);
      written = this.#effects.write(connection.stream, this.#vector);
      if (written === STREAM_RESULT.failed) return this.#streamFailed(connection);
      if (written < 0) written = 0;
      connection.countForwarded(written);
    }
    if (written === bytes) return;
    const rest = new Uint8Array(bytes - written);
    chain.copyOut(context.ram, H.size + written, rest);
    connection.enqueue(rest);
  }

  #writeBacklog(connection: VsockConnection): void {
    while (connection.backlog.length > 0) {
      const written = this.#effects.writeBytes(connection.stream, connection.backlog[0]!);
      if (written === STREAM_RESULT.failed) return this.#streamFailed(connection);
      if (written <= 0) return;
      connection.dequeue(written);
    }
    this.#afterWriting(connection);
  }

  /** Applies the guest's shutdown, once all data that it sent before is written. */
  #afterWriting(connection: VsockConnection): void {
    if (connection.backlogBytes > 0) return;
    if (connection.guestShutdown === VSOCK_SHUTDOWN.bothBits) this.#connections.reset(connection);
    else if (connection.guestShutdown & VSOCK_SHUTDOWN.sendBit) this.#effects.endWriting(connection.stream);
  }

  /** The stream's peer reads no more. What it wrote is still read to its end before the shutdown is sent. */
  #streamFailed(connection: VsockConnection): void {
    connection.hungUp = true;
    connection.readable = true;
    connection.dequeue(connection.backlogBytes);
    if (!this.#connections.has(connection)) this.#connections.release(connection);
    else if (connection.guestShutdown === VSOCK_SHUTDOWN.bothBits || connection.ended)
      this.#connections.reset(connection);
  }

  #sendDue(): void {
    if (this.#context) this.#sender.send(this.#context);
  }
}
