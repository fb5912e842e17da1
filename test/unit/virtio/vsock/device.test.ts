import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { IoVector } from '../../../../src/virtio/transport/io-vector.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { describeVsock, VsockDevice } from '../../../../src/virtio/vsock/device.ts';
import { BUF_ALLOC_BYTES } from '../../../../src/virtio/vsock/connection.ts';
import { MAX_CONNECTIONS } from '../../../../src/virtio/vsock/connections.ts';
import { STREAM_RESULT, type VsockEffects } from '../../../../src/virtio/vsock/effects.ts';
import { VSOCK_OP as OP } from '../../../../src/virtio/vsock/regs.ts';
import { seededRandom, type Random } from '../../support/random.ts';
import { createDeviceBench, createTestClock, RING_SPACE } from '../device-bench.ts';
import { DESCRIPTORS, DRIVER_AREA, HOST_BASE, putWords } from '../test-ram.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const CID = 3;
const BUFFER_BYTES = 1024;
const WINDOW = 4096;

interface FakeStream {
  readonly port: number;
  /** What the other end wrote and the device has not read. */
  incoming: Buffer;
  /** What the device wrote. */
  outgoing: Buffer;
  /** Bytes that the other end takes before it is full. */
  room: number;
  ended: boolean;
  failed: boolean;
  writingEnded: boolean;
  closed: boolean;
}

/** Streams in memory. */
class FakeHost implements VsockEffects {
  readonly streams: FakeStream[] = [];
  served = (_port: number) => true;
  constructor(
    readonly ram: () => Uint8Array,
    readonly after: (delayMs: number, handler: () => void) => () => void,
  ) {}

  open(port: number): number {
    const empty = Buffer.alloc(0);
    this.streams.push({
      ...{ port, incoming: empty, outgoing: empty, room: Infinity },
      ...{ ended: false, failed: false, writingEnded: false, closed: false },
    });
    return this.streams.length - 1;
  }
  connect(port: number): number {
    return this.served(port) ? this.open(port) : -1;
  }
  read(stream: number, target: IoVector): number {
    const each = this.#of(stream);
    if (each.incoming.length === 0 && each.failed) return STREAM_RESULT.failed;
    if (each.incoming.length === 0) return each.ended ? 0 : STREAM_RESULT.wouldBlock;
    let done = 0;
    for (let i = 0; i < target.count; i++) {
      const piece = each.incoming.subarray(0, target.lengthOf(i));
      this.ram().set(piece, target.hostOf(i) - HOST_BASE);
      each.incoming = each.incoming.subarray(piece.length);
      done += piece.length;
    }
    return done;
  }
  write(stream: number, source: IoVector): number {
    const pieces = Array.from({ length: source.count }, (_, i) => {
      const at = source.hostOf(i) - HOST_BASE;
      return this.ram().slice(at, at + source.lengthOf(i));
    });
    return this.writeBytes(stream, Buffer.concat(pieces));
  }
  writeBytes(stream: number, bytes: Uint8Array): number {
    const each = this.#of(stream);
    if (each.failed) return STREAM_RESULT.failed;
    const taken = Math.min(each.room, bytes.length);
    if (taken === 0) return STREAM_RESULT.wouldBlock;
    each.room -= taken;
    each.outgoing = Buffer.concat([each.outgoing, bytes.subarray(0, taken)]);
    return taken;
  }
  endWriting(stream: number): void {
    this.#of(stream).writingEnded = true;
  }
  close(stream: number): void {
    this.#of(stream).closed = true;
  }
  #of(stream: number): FakeStream {
    const each = this.streams[stream]!;
    if (each.closed) throw new Error('a stream that was closed is used');
    return each;
  }
}

interface Packet {
  readonly op: number;
  readonly from: number;
  readonly to: number;
  readonly flags: number;
  readonly window: number;
  readonly forwarded: number;
  readonly data: string;
}

function createVsock(options: { packed?: boolean; receiveBuffers?: number } = {}) {
  const clock = createTestClock();
  const host = new FakeHost(() => bench.bytes, clock.after);
  const device = new VsockDevice(CID, host);
  const bench = createDeviceBench(describeVsock(CID), device, [], { ...options, ramBytes: 0x10_0000 });
  const queues = bench.start();
  const places = new Map<number, number>();
  let nextPlace = 0;
  const refill = () => {
    const address = bench.buffers + BUFFER_BYTES * (nextPlace++ % 64);
    places.set(queues[0]!.add([{ address, length: BUFFER_BYTES, writable: true }]), address);
  };
  for (let i = 0; i < (options.receiveBuffers ?? 64); i++) refill();
  queues[0]!.notify();
  const out = bench.buffers + 0x2_0000;
  const put = (
    op: number,
    from: number,
    to: number,
    more: { data?: string; flags?: number; forwarded?: number } = {},
  ) => {
    const data = Buffer.from(more.data ?? '');
    const header = new DataView(new ArrayBuffer(44));
    const words = [
      CID,
      0,
      2,
      0,
      from,
      to,
      data.length,
      1 | (op << 16),
      more.flags ?? 0,
      WINDOW,
      more.forwarded ?? 0,
    ];
    words.forEach((word, i) => header.setUint32(4 * i, word, true));
    bench.bytes.set(new Uint8Array(header.buffer), out);
    bench.bytes.set(data, out + 44);
    return data.length;
  };
  /** A packet of the guest; its buffer is used again at once, for the device is done with it. */
  const send: (...packet: Parameters<typeof put>) => void = (...packet) => {
    const length = put(...packet);
    queues[1]!.offer([{ address: out, length: 44 + length }]);
  };
  /** What came to the guest since the last time; its buffers go back. */
  const received = (): Packet[] => {
    const packets: Packet[] = [];
    for (let used = queues[0]!.takeUsed(); used; used = queues[0]!.takeUsed()) {
      const at = places.get(used.id)!;
      const u32 = (offset: number) => bench.view.getUint32(at + offset, true);
      packets.push({
        ...{
          op: u32(28) >>> 16,
          from: u32(16),
          to: u32(20),
          flags: u32(32),
          window: u32(36),
          forwarded: u32(40),
        },
        data: Buffer.from(bench.bytes.slice(at + 44, at + used.written)).toString(),
      });
      refill();
    }
    if (packets.length > 0) queues[0]!.notify();
    return packets;
  };
  const ops = () => received().map(({ op }) => op);
  /** The guest goes on in another machine. */
  const move = (cid = CID) => {
    const nextHost = new FakeHost(() => bench.bytes, clock.after);
    const next = new VsockDevice(cid, nextHost);
    bench.restore(bench.save('vsock'), next, describeVsock(cid));
    return { device: next, host: nextHost };
  };
  return { ...bench, queues, clock, host, device, send, received, ops, out, move };
}

/** A connection from the guest's port 1000 to the host's 52. */
function connected(options: Parameters<typeof createVsock>[0] = {}) {
  const vsock = createVsock(options);
  vsock.send(OP.request, 1000, 52);
  vsock.received();
  return { ...vsock, stream: vsock.host.streams[0]! };
}

describe.each([false, true])('a connection from the guest (packed ring: %p)', (packed) => {
  test('reaches who serves the port, and carries bytes both ways', () => {
    const { send, received, host, device } = createVsock({ packed });
    send(OP.request, 1000, 52);
    const answer = received();

    send(OP.data, 1000, 52, { data: 'to the host' });
    host.streams[0]!.incoming = Buffer.from('to the guest');
    device.streamReady(0, true, false, false);

    expect(answer).toEqual([
      { op: OP.response, from: 52, to: 1000, flags: 0, window: BUF_ALLOC_BYTES, forwarded: 0, data: '' },
    ]);
    expect(host.streams[0]).toMatchObject({ port: 52, outgoing: Buffer.from('to the host') });
    expect(received()).toEqual([
      {
        op: OP.data,
        from: 52,
        to: 1000,
        flags: 0,
        window: BUF_ALLOC_BYTES,
        forwarded: 11,
        data: 'to the guest',
      },
    ]);
  });
});

describe('a connection from the guest', () => {
  test('is refused when nobody serves the port', () => {
    const { send, received, host } = createVsock();
    host.served = () => false;

    send(OP.request, 1000, 53);

    expect(received()).toMatchObject([{ op: OP.reset, from: 53, to: 1000 }]);
  });

  test('waits for buffers of the guest', () => {
    const { send, ops, queues, buffers } = createVsock({ receiveBuffers: 0 });
    send(OP.request, 1000, 52);
    const before = queues[0]!.takeUsed();

    const id = queues[0]!.offer([{ address: buffers, length: BUFFER_BYTES, writable: true }]);

    expect(before).toBeUndefined();
    expect(queues[0]!.takeUsed()).toEqual({ id, written: 44 });
    expect(ops()).toEqual([]);
  });

  test('keeps what the host does not take yet, in order, and says how much it took', () => {
    const { send, received, device, stream } = connected();
    stream.room = 5;
    send(OP.data, 1000, 52, { data: 'abcdefgh' });
    send(OP.data, 1000, 52, { data: 'ijk' });
    const early = stream.outgoing.toString();
    stream.room = Infinity;
    device.streamReady(0, false, true, false);
    send(OP.creditRequest, 1000, 52);

    expect(early).toBe('abcde');
    expect(stream.outgoing.toString()).toBe('abcdefghijk');
    expect(received()).toMatchObject([{ op: OP.creditUpdate, forwarded: 11 }]);
  });

  test('tells of new room by itself before the guest runs out', () => {
    const { send, received } = connected();
    const piece = 'x'.repeat(8192);

    for (let i = 0; i < 4; i++) send(OP.data, 1000, 52, { data: piece });

    expect(received()).toMatchObject([{ op: OP.creditUpdate, forwarded: BUF_ALLOC_BYTES / 2 }]);
  });

  test('that sends more than it was given room for is reset', () => {
    const { send, ops, stream } = connected();
    stream.room = 0;
    const piece = 'x'.repeat(BUF_ALLOC_BYTES / 4);
    for (let i = 0; i < 4; i++) send(OP.data, 1000, 52, { data: piece });
    const before = ops();

    send(OP.data, 1000, 52, { data: 'y' });

    expect(before).toEqual([]);
    expect(ops()).toEqual([OP.reset]);
    expect(stream.closed).toBe(true);
  });

  test('gets no more than it has room for, and asks for room once', () => {
    const { send, received, device, stream } = connected();
    stream.incoming = Buffer.alloc(3 * WINDOW, 'z');
    device.streamReady(0, true, false, false);
    const first = received();
    device.streamReady(0, true, false, false);
    const stalled = received();

    send(OP.creditUpdate, 1000, 52, { forwarded: WINDOW });

    const bytes = (packets: Packet[]) => packets.reduce((sum, { data }) => sum + data.length, 0);
    expect(bytes(first)).toBe(WINDOW);
    expect(first.filter(({ op }) => op === OP.creditRequest)).toHaveLength(1);
    expect(stalled).toEqual([]);
    expect(bytes(received())).toBe(WINDOW);
  });

  test('gets what the host wrote before it hung up, and then the news', () => {
    const { send, received, device, stream } = connected();
    stream.incoming = Buffer.from('last words');
    stream.ended = true;
    device.streamReady(0, true, false, true);
    const packets = received();

    send(OP.reset, 1000, 52);

    expect(packets).toMatchObject([
      { op: OP.data, data: 'last words' },
      { op: OP.shutdown, flags: 3 },
    ]);
    expect(stream.closed).toBe(true);
    expect(received()).toEqual([]);
  });

  test('can be half closed by the host', () => {
    const { send, received, device, stream } = connected();
    stream.ended = true;
    device.streamReady(0, true, false, false);

    send(OP.data, 1000, 52, { data: 'still going' });

    expect(received()).toMatchObject([{ op: OP.shutdown, flags: 2 }]);
    expect(stream.outgoing.toString()).toBe('still going');
  });

  test('can be half closed by the guest, after all it sent was written', () => {
    const { send, device, stream, received } = connected();
    stream.room = 2;
    send(OP.data, 1000, 52, { data: 'four' });
    send(OP.shutdown, 1000, 52, { flags: 2 });
    const early = stream.writingEnded;
    stream.room = Infinity;
    stream.incoming = Buffer.from('answer');

    device.streamReady(0, true, true, false);

    expect(early).toBe(false);
    expect(stream).toMatchObject({ outgoing: Buffer.from('four'), writingEnded: true, closed: false });
    expect(received()).toMatchObject([{ op: OP.data, data: 'answer' }]);
  });

  test('is over when the guest shuts down both ways: that is answered by a reset', () => {
    const { send, ops, stream } = connected();

    send(OP.shutdown, 1000, 52, { flags: 3 });

    expect(ops()).toEqual([OP.reset]);
    expect(stream.closed).toBe(true);
  });

  test('delivers what it sent even when the guest has long forgotten it', () => {
    const { send, device, stream } = connected();
    stream.room = 0;
    send(OP.data, 1000, 52, { data: 'letter' });
    send(OP.shutdown, 1000, 52, { flags: 3 });
    send(OP.reset, 1000, 52);
    const early = stream.closed;
    stream.room = Infinity;

    device.streamReady(0, false, true, false);

    expect(early).toBe(false);
    expect(stream).toMatchObject({ outgoing: Buffer.from('letter'), closed: true });
  });

  test('that the guest does not say goodbye to is given up after a while', () => {
    const { ops, device, stream, clock } = connected();
    stream.ended = true;
    device.streamReady(0, true, false, true);
    const goodbye = ops();

    clock.advance(2000);

    expect(goodbye).toEqual([OP.shutdown]);
    expect(ops()).toEqual([OP.reset]);
    expect(stream.closed).toBe(true);
  });

  test('that breaks on the host says goodbye to the guest', () => {
    const { send, ops, stream } = connected();
    stream.failed = true;

    send(OP.data, 1000, 52, { data: 'into the void' });

    expect(ops()).toEqual([OP.shutdown]);
  });
});

describe('a connection from the host', () => {
  test('is offered to the guest, and who asked is told its port', () => {
    const { send, received, host, device } = createVsock();
    const stream = host.open(0);
    device.connectGuest(stream, 80);
    const [request] = received();
    const early = host.streams[stream]!.outgoing.length;

    send(OP.response, 80, request!.from);
    host.streams[stream]!.incoming = Buffer.from('GET');
    device.streamReady(stream, true, false, false);

    expect(request).toMatchObject({ op: OP.request, from: 2 ** 30, to: 80 });
    expect(early).toBe(0);
    expect(host.streams[stream]!.outgoing.toString()).toBe(`OK ${2 ** 30}\n`);
    expect(received()).toMatchObject([{ op: OP.data, data: 'GET' }]);
  });

  test('ends when the guest refuses it', () => {
    const { send, received, host, device } = createVsock();
    device.connectGuest(host.open(0), 80);
    const [request] = received();

    send(OP.reset, 80, request!.from);

    expect(host.streams[0]!.closed).toBe(true);
  });

  test('ends when the guest does not answer', () => {
    const { ops, host, device, clock } = createVsock();
    device.connectGuest(host.open(0), 80);
    const asked = ops();

    clock.advance(2000);

    expect(asked).toEqual([OP.request]);
    expect(ops()).toEqual([OP.reset]);
    expect(host.streams[0]!.closed).toBe(true);
    expect(clock.pending()).toBe(0);
  });

  test('is not possible while there is no driver', () => {
    const { write, host, device } = createVsock();
    write(R.status, 0);

    expect(device.connectGuest(host.open(0), 80)).toBe(false);
  });
});

describe('many connections', () => {
  test('take turns', () => {
    const { send, received, host, device } = createVsock({ receiveBuffers: 3 });
    for (const port of [1, 2, 3]) send(OP.request, port, 52);
    received();
    host.streams.forEach((stream) => (stream.incoming = Buffer.alloc(4 * 980)));
    [0, 1, 2].forEach((stream) => device.streamReady(stream, true, false, false));
    const first = received();

    const second = received();

    expect(first.map(({ to }) => to)).toEqual([1, 1, 1]);
    expect(second.map(({ to }) => to)).toEqual([1, 2, 3]);
  });

  test('are as many as there may be, and then refused', () => {
    const { send, ops, host } = createVsock();
    for (let port = 1; port <= MAX_CONNECTIONS; port++) {
      send(OP.request, port, 52);
      ops();
    }

    send(OP.request, 5000, 52);

    expect(host.streams).toHaveLength(MAX_CONNECTIONS);
    expect(ops()).toEqual([OP.reset]);
  });

  test('all end with a reset of the device', () => {
    const { send, write, host, ops } = createVsock();
    for (let port = 1; port <= 20; port++) send(OP.request, port, 52);
    ops();

    write(R.status, 0);

    expect(host.streams.every(({ closed }) => closed)).toBe(true);
  });
});

describe('a hostile guest', () => {
  test.each([
    ['data for nobody', OP.data, 7, 7],
    ['an operation that does not exist', 99, 1000, 52],
    ['a second request for a connection', OP.request, 1000, 52],
    ['an answer that nobody asked for', OP.response, 1000, 52],
  ])('gets a reset for %s', (_, op, from, to) => {
    const { send, ops, needsReset } = connected();

    send(op, from, to, { data: 'x' });

    expect(ops()).toEqual([OP.reset]);
    expect(needsReset()).toBe(false);
  });

  test('that says a packet is longer than it is loses the connection', () => {
    const { send, ops, view, queues, out, stream } = connected();
    send(OP.creditUpdate, 1000, 52);
    view.setUint32(out + 24, 500, true);
    view.setUint16(out + 30, OP.data, true);

    queues[1]!.offer([{ address: out, length: 50 }]);

    expect(ops()).toEqual([OP.reset]);
    expect(stream.outgoing).toHaveLength(0);
  });

  test('that speaks for another, or to another, is not heard', () => {
    const { send, ops, view, queues, out, stream } = connected();
    send(OP.creditUpdate, 1000, 52);
    view.setUint16(out + 30, OP.reset, true);
    view.setUint32(out, 4, true);
    queues[1]!.offer([{ address: out, length: 44 }]);
    view.setUint32(out, CID, true);
    view.setUint32(out + 8, 5, true);
    queues[1]!.offer([{ address: out, length: 44 }]);
    queues[1]!.offer([{ address: out, length: 20 }]);

    expect(ops()).toEqual([]);
    expect(stream.closed).toBe(false);
  });

  test('that takes no answers is not asked for more questions', () => {
    const { send, queues, out } = createVsock({ receiveBuffers: 0 });
    let taken = 0;
    for (let i = 0; i < 300; i++) {
      send(OP.data, i, 52);
      if (queues[1]!.takeUsed()) taken++;
    }

    expect(taken).toBe(256);
    expect(out).toBeGreaterThan(0);
  });

  test.each([
    ['receive buffers that cannot be written', 0, { length: 1024, writable: false }],
    ['receive buffers without room for data', 0, { length: 44, writable: true }],
    ['a wild address to receive into', 0, { length: 1024, writable: true, address: 2 ** 50 }],
    ['a wild address to send from', 1, { length: 44, address: 2 ** 50 }],
  ])('gets NEEDS_RESET for %s', (_, queue, buffer) => {
    const { send, queues, buffers, needsReset, host } = createVsock({ receiveBuffers: 0 });
    send(OP.request, 1000, 52);

    queues[queue]!.offer([{ address: buffers, ...buffer }]);

    expect(needsReset()).toBe(true);
    expect(host.streams.every(({ closed }) => closed)).toBe(true);
  });

  test('with random packets and rings breaks its own device at most', () => {
    const random = seededRandom(19);
    let broken = 0;
    for (let episode = 0; episode < 100; episode++) {
      const vsock = createVsock();
      for (let round = 0; round < 300 && !vsock.needsReset(); round++) doSomethingRandom(vsock, random);
      if (vsock.needsReset()) broken++;
      vsock.write(R.status, 0);
      expect(vsock.clock.pending()).toBe(0);
      expect(vsock.host.streams.filter(({ closed, port }) => !closed && port !== ASKED)).toHaveLength(0);
    }

    expect(broken).toBeGreaterThan(20);
    expect(broken).toBeLessThan(100);
  });
});

/** Port of streams that the host opened itself; the device may have refused them. */
const ASKED = -1;

function doSomethingRandom(vsock: ReturnType<typeof createVsock>, random: Random): void {
  const { send, received, host, device, clock, view } = vsock;
  host.served = () => random.int(0, 3) > 0;
  send(random.int(0, 8), random.int(1, 4), random.pick([52, 53, 2 ** 30, 2 ** 30 + 1]), {
    data: 'x'.repeat(random.pick([0, 1, 500, 9000])),
    flags: random.int(0, 4),
    forwarded: random.pick([0, 500, 2 ** 31, 2 ** 32 - 1]),
  });
  const at = random.int(0, host.streams.length);
  const stream = host.streams[at];
  if (stream && !stream.closed) {
    stream.incoming = Buffer.alloc(random.int(0, 5000));
    stream.room = random.pick([0, 10, Infinity]);
    stream.failed = random.int(0, 9) === 0;
    device.streamReady(at, random.int(0, 1) === 1, random.int(0, 1) === 1, random.int(0, 9) === 0);
  }
  if (random.int(0, 9) === 0) device.connectGuest(host.open(ASKED), random.int(1, 4));
  if (random.int(0, 199) === 0) {
    const ring = RING_SPACE * random.int(0, 1);
    const entry = ring + DESCRIPTORS + 16 * random.int(0, 63);
    putWords(view, entry, random.pick([0, 2 ** 40]), 100, random.int(0, 7), 5);
    view.setUint16(ring + DRIVER_AREA + 2, random.int(0, 0xffff), true);
  }
  received();
  clock.advance(random.int(0, 100));
}

describe('a restored socket device', () => {
  const event = (vsock: ReturnType<typeof createVsock>) => {
    const address = vsock.buffers + 0x3_0000;
    vsock.view.setUint32(address, 0xaaaa_aaaa, true);
    return { chain: [{ address, length: 4, writable: true }], id: () => vsock.view.getUint32(address, true) };
  };

  test.each([false, true])('tells the guest that its connections are gone (packed ring: %p)', (packed) => {
    const vsock = connected({ packed });
    const { chain, id } = event(vsock);
    const offered = vsock.queues[2]!.offer(chain);
    const before = vsock.queues[2]!.takeUsed();

    const there = vsock.move();

    expect(before).toBeUndefined();
    expect(vsock.queues[2]!.takeUsed()).toEqual({ id: offered, written: 4 });
    expect(id()).toBe(0);
    expect(vsock.read(R.interruptStatus)).toBe(1);
    expect(vsock.received()).toEqual([]);
    expect(there.host.streams).toEqual([]);
    expect(vsock.stream.closed).toBe(true);
  });

  test('tells it once, as soon as there is a buffer for it', () => {
    const vsock = createVsock();
    vsock.move();
    const { chain } = event(vsock);

    const offered = vsock.queues[2]!.offer(chain);
    vsock.queues[2]!.offer(chain);

    expect([vsock.queues[2]!.takeUsed(), vsock.queues[2]!.takeUsed()]).toEqual([
      { id: offered, written: 4 },
      undefined,
    ]);
  });

  test('tells a guest that was moved again before it had a buffer, and none that has reset the device', () => {
    const vsock = createVsock();
    vsock.move();
    vsock.move();
    const offered = vsock.queues[2]!.offer(event(vsock).chain);
    const told = vsock.queues[2]!.takeUsed();
    vsock.move();

    const [, , queue] = vsock.start();
    queue!.offer(event(vsock).chain);

    expect(told).toEqual({ id: offered, written: 4 });
    expect(queue!.takeUsed()).toBeUndefined();
  });

  test('resets what the guest still sends on an old connection', () => {
    const vsock = connected();
    vsock.move();

    vsock.send(OP.data, 1000, 52, { data: 'for nobody' });

    expect(vsock.received()).toMatchObject([{ op: OP.reset, from: 52, to: 1000 }]);
  });

  test('uses no port of a connection from before', () => {
    const vsock = createVsock();
    vsock.device.connectGuest(vsock.host.open(0), 80);
    const [before] = vsock.received();
    const there = vsock.move();

    there.device.connectGuest(there.host.open(0), 80);

    expect(vsock.received()).toMatchObject([{ op: OP.request, from: before!.from + 1, to: 80 }]);
  });

  test('shows a new context id, which the guest reads because of the event', () => {
    const vsock = createVsock();
    vsock.queues[2]!.offer(event(vsock).chain);

    vsock.move(77);

    expect(vsock.read(R.config)).toBe(77);
    expect(vsock.queues[2]!.takeUsed()).toMatchObject({ written: 4 });
  });

  test.each([
    ['too short', { length: 3, writable: true }],
    ['read-only', { length: 4, writable: false }],
  ])('gives up on a driver whose event buffer is %s', (_, buffer) => {
    const vsock = createVsock();
    vsock.move();

    vsock.queues[2]!.offer([{ address: vsock.buffers, ...buffer }]);

    expect(vsock.needsReset()).toBe(true);
  });
});
