/** The socket device between a guest that sends any packets and a host whose streams do as they like. */
import type { IoVector } from '../../../src/virtio/transport/io-vector.ts';
import { STREAM_RESULT, type VsockEffects } from '../../../src/virtio/vsock/effects.ts';
import { describeVsock, VsockDevice } from '../../../src/virtio/vsock/device.ts';
import { BUF_ALLOC_BYTES } from '../../../src/virtio/vsock/connection.ts';
import {
  HOST_CID,
  VSOCK_EVENT,
  VSOCK_HEADER as H,
  VSOCK_OP as OP,
  VSOCK_QUEUE as Q,
  VSOCK_SHUTDOWN,
  VSOCK_TYPE_STREAM,
} from '../../../src/virtio/vsock/regs.ts';
import { createTestClock } from '../../../test/unit/virtio/device-bench.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { guestAddressOf, movesOf, RandomDriver, type Choose } from '../random-driver.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const GUEST_CID = 5;
const PORTS = 4;

/** What goes into a stream, each way, counts: a byte that is lost, doubled or out of order shows. */
interface Stream {
  written: number;
  read: number;
  ended: boolean;
  /** Nobody reads it any more. */
  broken: boolean;
}

/** What a guest knows of a connection. */
interface GuestSocket {
  sent: number;
  received: number;
  window: number;
  forwarded: number;
  /** The host asked, and was not answered. */
  asked: boolean;
  /** It asked for what it had: which of two connections a packet is of, nobody knows any more. */
  wild: boolean;
}

class FuzzHost implements VsockEffects {
  readonly open = new Map<number, Stream>();
  connected = 0;
  /** Set once the driver's data may be anything. */
  driver: RandomDriver | undefined;
  readonly after: VsockEffects['after'];
  readonly #choose: Choose;
  #next = 1;

  constructor(choose: Choose, after: VsockEffects['after']) {
    this.#choose = choose;
    this.after = after;
  }

  accept(): number {
    this.open.set(this.#next, { written: 0, read: 0, ended: false, broken: false });
    return this.#next++;
  }

  connect(): number {
    if (this.#choose(4) === 0) return -1;
    this.connected++;
    return this.accept();
  }

  read(stream: number, target: IoVector): number {
    const state = this.#stream(stream);
    if (target.bytes === 0) throw new Error('reads into nothing');
    const kind = this.#choose(8);
    if (kind === 0) state.ended = true;
    if (kind === 1 && this.#choose(4) === 0) state.broken = true;
    if (state.broken) return STREAM_RESULT.failed;
    if (kind === 2) return STREAM_RESULT.wouldBlock;
    if (state.ended) return 0;
    const bytes = 1 + this.#choose(target.bytes);
    let done = 0;
    for (let i = 0; i < target.count; i++) {
      const at = guestAddressOf(target.hostOf(i), target.lengthOf(i));
      for (let j = 0; j < target.lengthOf(i) && done < bytes; j++, done++)
        this.driver!.bytes[at + j] = (state.read + done) & 0xff;
    }
    state.read += bytes;
    return bytes;
  }

  write(stream: number, source: IoVector): number {
    const pieces: Uint8Array[] = [];
    for (let i = 0; i < source.count; i++) {
      const at = guestAddressOf(source.hostOf(i), source.lengthOf(i));
      pieces.push(this.driver!.bytes.subarray(at, at + source.lengthOf(i)));
    }
    const bytes = Buffer.concat(pieces);
    if (bytes.length !== source.bytes) throw new Error(`${source.bytes} bytes in ${bytes.length}`);
    return this.writeBytes(stream, bytes);
  }

  writeBytes(stream: number, bytes: Uint8Array): number {
    const state = this.#stream(stream);
    if (bytes.length === 0) throw new Error('writes nothing');
    // To who connected from the host, the answer comes first.
    if (bytes[0] === 'O'.charCodeAt(0) && bytes[1] === 'K'.charCodeAt(0) && state.written === 0)
      return this.#choose(16) === 0 ? STREAM_RESULT.wouldBlock : bytes.length;
    const kind = this.#choose(8);
    if (kind === 0 && this.#choose(4) === 0) state.broken = true;
    if (state.broken) return STREAM_RESULT.failed;
    if (kind === 1) return STREAM_RESULT.wouldBlock;
    const taken = kind === 2 ? this.#choose(bytes.length + 1) : bytes.length;
    for (let i = 0; i < taken && this.driver?.honest; i++) {
      if (bytes[i] !== ((state.written + i) & 0xff))
        throw new Error(`byte ${state.written + i} of stream ${stream} is ${bytes[i]}`);
    }
    state.written += taken;
    return taken;
  }

  endWriting(stream: number): void {
    this.#stream(stream);
  }

  close(stream: number): void {
    this.#stream(stream);
    this.open.delete(stream);
  }

  #stream(stream: number): Stream {
    const state = this.open.get(stream);
    if (!state) throw new Error(`stream ${stream} is closed`);
    return state;
  }
}

class FuzzGuest {
  readonly sockets = new Map<string, GuestSocket>();
  readonly #driver: RandomDriver;
  readonly #choose: Choose;
  readonly #hostPorts: number[] = Array.from({ length: PORTS }, (_, i) => i + 1);
  readonly operations = new Set<number>();
  /** Those that it uses now. One that was reset is not used again, as Linux does for long. */
  readonly #guestPorts: number[] = Array.from({ length: PORTS }, (_, i) => i + 1);
  #nextPort = PORTS + 1;

  constructor(driver: RandomDriver, choose: Choose) {
    this.#driver = driver;
    this.#choose = choose;
  }

  forget(): void {
    for (const port of [...this.#guestPorts]) this.#leavePort(port);
  }

  anyPort(): number {
    return this.#guestPorts[this.#choose(PORTS)]!;
  }

  #leavePort(port: number): void {
    const at = this.#guestPorts.indexOf(port);
    if (at < 0) return;
    this.#guestPorts[at] = this.#nextPort++;
    for (const key of this.sockets.keys()) if (key.startsWith(`${port}:`)) this.sockets.delete(key);
  }

  /** A packet, most fields of which are right as a rule. */
  send(alone: boolean): void {
    const choose = this.#choose;
    const guestPort = this.anyPort();
    const hostPort = this.#hostPorts[choose(this.#hostPorts.length)]!;
    const key = `${guestPort}:${hostPort}`;
    const before = this.sockets.get(key);
    const wanted = this.#operation(before);
    const known = wanted !== OP.data || (before !== undefined && !before.wild);
    const operation = known ? wanted : before === undefined ? OP.request : OP.creditUpdate;
    const data =
      operation === OP.data
        ? choose(alone && choose(4) === 0 ? 40_000 : 300)
        : choose(16) === 0
          ? choose(100)
          : 0;
    const length = choose(24) === 0 ? choose(0xffff_ffff) : data;
    const socket = {
      wild: before !== undefined && (before.wild || operation === OP.request),
      asked: false,
      sent: 0,
      received: 0,
      window: choose(8) === 0 ? 0 : 1 + choose(70_000),
      forwarded: 0,
    };
    if (before && operation !== OP.request) {
      // Room once given is not taken back, and what was received is given back as it likes.
      socket.window = Math.max(before.window, socket.window);
      [socket.sent, socket.received] = [before.sent, before.received];
      socket.forwarded = choose(2) === 0 ? before.received : before.forwarded;
    }
    const packet = new Uint8Array(H.size + data);
    const view = new DataView(packet.buffer);
    view.setUint32(H.sourceCid, choose(32) === 0 ? choose(10) : GUEST_CID, true);
    view.setUint32(H.sourceCid + 4, choose(64) === 0 ? 1 : 0, true);
    view.setUint32(H.destinationCid, choose(32) === 0 ? choose(10) : HOST_CID, true);
    view.setUint32(H.sourcePort, guestPort, true);
    view.setUint32(H.destinationPort, hostPort, true);
    view.setUint32(H.length, length, true);
    view.setUint16(H.type, choose(24) === 0 ? choose(4) : VSOCK_TYPE_STREAM, true);
    view.setUint16(H.operation, operation, true);
    view.setUint32(H.flags, operation === OP.shutdown ? choose(5) : choose(16), true);
    view.setUint32(H.bufferAlloc, socket.window, true);
    view.setUint32(H.forwardCount, socket.forwarded >>> 0, true);
    for (let i = 0; i < data; i++) packet[H.size + i] = (socket.sent + i) & 0xff;
    const ignored =
      view.getUint32(H.sourceCid, true) !== GUEST_CID ||
      view.getUint32(H.sourceCid + 4, true) !== 0 ||
      view.getUint32(H.destinationCid, true) !== HOST_CID;
    const buffers = this.#driver.buffers(packet.length, false);
    this.#driver.put(buffers, packet);
    // What it says is known before it is offered, since it may be answered at once.
    const kept = before && { ...before };
    if (!ignored && view.getUint16(H.type, true) === VSOCK_TYPE_STREAM) {
      if (operation === OP.data) socket.sent += length;
      if (before || operation === OP.request) this.sockets.set(key, socket);
    }
    if (this.#driver.offer(Q.transmit, buffers)) return;
    if (kept) this.sockets.set(key, kept);
    else this.sockets.delete(key);
  }

  /** As a guest does, mostly. */
  #operation(socket: GuestSocket | undefined): number {
    const choose = this.#choose;
    switch (choose(8)) {
      case 0:
        return choose(8) === 0 ? choose(0x1_0000) : 1 + choose(7);
      case 1:
        return [OP.shutdown, OP.creditUpdate, OP.creditUpdate, OP.creditRequest][choose(4)]!;
      default:
        return socket === undefined ? OP.request : socket.asked ? OP.response : OP.data;
    }
  }

  /** Looks at what came: who it is from, and that nobody sent more than there was room for. */
  receive(): void {
    for (const { buffers, written } of this.#driver.collect(Q.receive)) {
      const packet = this.#driver.get(buffers, written);
      if (packet.length < H.size) throw new Error(`a packet of ${packet.length} bytes`);
      const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
      const operation = view.getUint16(H.operation, true);
      const [guestPort, hostPort] = [
        view.getUint32(H.destinationPort, true),
        view.getUint32(H.sourcePort, true),
      ];
      const length = view.getUint32(H.length, true);
      const key = `${guestPort}:${hostPort}`;
      this.operations.add(operation);
      if (view.getUint32(H.destinationCid, true) !== GUEST_CID) throw new Error('a packet for another guest');
      if (packet.length !== H.size + length)
        throw new Error(`${packet.length} bytes say they have ${length}`);
      if (view.getUint32(H.bufferAlloc, true) !== BUF_ALLOC_BYTES && operation !== OP.reset)
        throw new Error('a packet gives another window');
      if (operation === OP.request) {
        this.sockets.set(key, { sent: 0, received: 0, window: 0, forwarded: 0, asked: true, wild: false });
        if (!this.#hostPorts.includes(hostPort)) this.#hostPorts.push(hostPort);
      }
      if (operation === OP.reset) this.#leavePort(guestPort);
      if (operation === OP.data) this.#takeData(key, packet.subarray(H.size));
    }
  }

  #takeData(key: string, data: Uint8Array): void {
    const socket = this.sockets.get(key);
    // Of a port that it has left.
    if (!socket || socket.wild) return;
    for (let i = 0; i < data.length; i++) {
      if (data[i] !== ((socket.received + i) & 0xff))
        throw new Error(`byte ${socket.received + i} for ${key} is ${data[i]}`);
    }
    socket.received += data.length;
    if (socket.received - socket.forwarded > socket.window)
      throw new Error(`${socket.received - socket.forwarded} bytes for ${socket.window} of ${key}`);
  }
}

export const vsockTarget: FuzzTarget = {
  name: 'vsock',
  what: 'a socket device between a guest with any packets and streams that block, fail and end',
  seeds: () => randomChoices(seededRandom(9), 64, 300),
  run: (input) => {
    const choose = choicesOf(input);
    const clock = createTestClock();
    const host = new FuzzHost(choose, clock.after);
    let device = new VsockDevice(GUEST_CID, host);
    const isMove = movesOf(input);
    const driver = new RandomDriver(describeVsock(GUEST_CID), device, choose);
    host.driver = driver;
    const guest = new FuzzGuest(driver, choose);
    driver.onRestart = () => guest.forget();
    for (let step = 0; step < 80; step++) {
      if (isMove()) {
        // A guest that is told of the end of its connections uses none of them any more.
        guest.forget();
        driver.move('vsock', (device = new VsockDevice(GUEST_CID, host)));
        driver.offer(Q.event, driver.buffers(VSOCK_EVENT.size, true));
      }
      const streams = [...host.open.keys()];
      switch (choose(12)) {
        case 0:
        case 1:
          driver.offer(Q.receive, driver.buffers(H.size + 1 + choose(choose(4) === 0 ? 8000 : 500), true));
          break;
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
          for (let times = driver.times(), left = times; left > 0; left--) guest.send(times === 1);
          break;
        case 7:
          if (streams.length < 6) {
            const stream = host.accept();
            if (!device.connectGuest(stream, guest.anyPort())) host.close(stream);
          }
          break;
        case 8:
          if (streams.length > 0)
            device.streamReady(
              streams[choose(streams.length)]!,
              choose(2) === 0,
              choose(2) === 0,
              choose(8) === 0,
            );
          break;
        case 9:
          clock.advance(choose(choose(4) === 0 ? 3000 : 100));
          break;
        case 10:
          if (choose(6) === 0) driver.misbehave();
          break;
        case 11:
          if (choose(10) === 0) driver.restart();
          else driver.notify(choose(3));
      }
      guest.receive();
      driver.collect(Q.transmit);
      for (const { buffers, written } of driver.collect(Q.event)) {
        if (driver.get(buffers, written).some((byte) => byte !== 0)) throw new Error('an unknown event');
      }
      driver.check();
    }
    driver.stop();
    if (host.open.size > 0) throw new Error(`${host.open.size} streams are left open`);
    if (clock.pending() > 0) throw new Error(`${clock.pending()} timers are left`);
    const { bothBits } = VSOCK_SHUTDOWN;
    return `${driver.gaveUp} ${Math.min(host.connected, bothBits)} ${[...guest.operations].sort()} ${driver.words}`;
  },
};
