import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { IoVector } from '../../../../src/virtio/transport/io-vector.ts';
import { describeNet, NetDevice, type NetOptions } from '../../../../src/virtio/net/device.ts';
import { PORT_RESULT, type GuestOffloads, type NetPort } from '../../../../src/virtio/net/port.ts';
import { NET_FEATURE as F } from '../../../../src/virtio/net/regs.ts';
import { QUEUE_COUNTER } from '../../../../src/virtio/transport/device-state.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import type { RateLimits } from '../../../../src/virtio/transport/rate-limiter.ts';
import { seededRandom } from '../../support/random.ts';
import { createDeviceBench, createTestClock, RING_SPACE, type BenchOptions } from '../device-bench.ts';
import { DESCRIPTORS, DRIVER_AREA, HOST_BASE, putWords } from '../test-ram.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const NO_LIMITS: RateLimits = { bandwidth: undefined, ops: undefined };
const MAC = Uint8Array.of(2, 0, 0, 0xaa, 0xbb, 0xcc);
const HEADER = 12;

/** A network of one wire that a test holds both ends of. */
class WirePort implements NetPort {
  readonly sent: Uint8Array[] = [];
  /** Frames to come, without header. */
  readonly waiting: Uint8Array[] = [];
  full = false;
  gone = false;
  largestTarget = 0;
  constructor(readonly ram: () => Uint8Array) {}

  send(packet: IoVector): number {
    if (this.full) return PORT_RESULT.wouldBlock;
    if (this.gone) return PORT_RESULT.dropped;
    const pieces = Array.from({ length: packet.count }, (_, i) => {
      const at = packet.hostOf(i) - HOST_BASE;
      return this.ram().slice(at, at + packet.lengthOf(i));
    });
    this.sent.push(Buffer.concat(pieces));
    return packet.bytes;
  }

  sendBytes(packet: Uint8Array): void {
    if (!this.full && !this.gone) this.sent.push(packet);
  }

  receive(packet: IoVector): number {
    const frame = this.waiting.shift();
    if (!frame) return PORT_RESULT.wouldBlock;
    this.largestTarget = Math.max(this.largestTarget, packet.bytes);
    const bytes = Buffer.concat([new Uint8Array(HEADER), frame]);
    let done = 0;
    for (let i = 0; i < packet.count && done < bytes.length; i++) {
      const piece = bytes.subarray(done, done + packet.lengthOf(i));
      this.ram().set(piece, packet.hostOf(i) - HOST_BASE);
      done += piece.length;
    }
    return done;
  }
}

interface Setup extends BenchOptions {
  readonly options?: Partial<NetOptions>;
  readonly features?: readonly number[];
  readonly receiveLimits?: RateLimits;
  readonly transmitLimits?: RateLimits;
}

function createNet(setup: Setup = {}) {
  const options: NetOptions = { mac: MAC, pairs: 1, mtu: undefined, offloads: true, ...setup.options };
  const clock = createTestClock();
  const offloads: GuestOffloads[] = [];
  const active: number[] = [];
  const ports = Array.from({ length: options.pairs }, () => new WirePort(() => bench.bytes));
  const effects = {
    ports,
    setOffloads: (each: GuestOffloads) => void offloads.push(each),
    setActivePorts: (count: number) => void active.push(count),
    ...clock,
  };
  const device = new NetDevice(effects, {
    pairs: options.pairs,
    hostMtu: 1500,
    receiveLimits: setup.receiveLimits ?? NO_LIMITS,
    transmitLimits: setup.transmitLimits ?? NO_LIMITS,
  });
  const bench = createDeviceBench(describeNet(options), device, setup.features ?? [F.mrgRxbuf], setup);
  const queues = bench.start();
  /** The guest goes on in another machine, with the network that this gives. */
  const move = (change: Partial<NetOptions> = {}) => {
    const there = { ...options, ...change };
    const next = {
      ports: Array.from({ length: there.pairs }, () => new WirePort(() => bench.bytes)),
      offloads: [] as GuestOffloads[],
      active: [] as number[],
    };
    const served = new NetDevice(
      {
        ports: next.ports,
        setOffloads: (each) => void next.offloads.push(each),
        setActivePorts: (count) => void next.active.push(count),
        ...clock,
      },
      { pairs: there.pairs, hostMtu: 1500, receiveLimits: NO_LIMITS, transmitLimits: NO_LIMITS },
    );
    bench.restore(bench.save('net'), served, describeNet(there));
    return { ...next, port: next.ports[0]!, device: served };
  };
  return { ...bench, device, ports, port: ports[0]!, queues, offloads, active, clock, move };
}

const frame = (length: number, first = 1) => Uint8Array.from({ length }, (_, i) => (first + i) & 0xff);

describe('the network device tells its driver', () => {
  test('its address, that the link is up, and how many pairs of queues there are', () => {
    const { read } = createNet({ options: { pairs: 4, mtu: 9000 } });

    expect([0, 1, 2, 3, 4, 5].map((i) => read(R.config + i, 1))).toEqual([...MAC]);
    expect(read(R.config + 6, 2)).toBe(1);
    expect(read(R.config + 8, 2)).toBe(4);
    expect(read(R.config + 10, 2)).toBe(9000);
  });

  test('that the link is there again, when it went in one life of the driver and came back between two', () => {
    const { read, write, start, device } = createNet({ features: [F.mrgRxbuf, F.status] });
    device.setLink(false);
    const down = read(R.config + 6, 2);
    write(R.status, 0);
    device.setLink(true);
    start();

    expect(down).toBe(0);
    expect(read(R.config + 6, 2)).toBe(1);
  });

  test('only the features that what is behind it has', () => {
    const none: NetOptions = { mac: undefined, pairs: 1, mtu: undefined, offloads: false };

    expect([...describeNet(none).features].sort((a, b) => a - b)).toEqual([
      F.mrgRxbuf,
      F.status,
      F.ctrlVq,
      F.guestAnnounce,
    ]);
    expect(describeNet(none).queueSizes).toHaveLength(3);
    expect(describeNet({ ...none, pairs: 2 }).features).toContain(F.mq);
    expect(describeNet({ ...none, pairs: 2 }).queueSizes).toHaveLength(5);
    expect(describeNet({ ...none, offloads: true }).features).toContain(F.hostTso6);
  });
});

describe.each([false, true])('packets from the guest (packed ring: %p)', (packed) => {
  test('go out whole, header and all, from wherever their parts lie', () => {
    const { queues, port, bytes, buffers, interrupts } = createNet({ packed });
    const packet = frame(HEADER + 100);
    bytes.set(packet.subarray(0, 7), buffers);
    bytes.set(packet.subarray(7, 50), buffers + 0x1000);
    bytes.set(packet.subarray(50), buffers + 0x2000);

    const id = queues[1]!.offer([
      { address: buffers, length: 7 },
      { address: buffers + 0x1000, length: 43 },
      { address: buffers + 0x2000, length: packet.length - 50 },
    ]);

    expect(port.sent).toEqual([Buffer.from(packet)]);
    expect(queues[1]!.takeUsed()).toEqual({ id, written: 0 });
    expect(interrupts()).toBe(1);
  });

  test('wait, in order, while nothing goes out', () => {
    const { queues, port, bytes, buffers, device } = createNet({ packed });
    bytes.set(frame(100), buffers);
    bytes.set(frame(100, 50), buffers + 100);
    port.full = true;
    queues[1]!.offer([{ address: buffers, length: 100 }]);
    queues[1]!.offer([{ address: buffers + 100, length: 100 }]);
    const early = queues[1]!.takeUsed();

    port.full = false;
    device.portWritable(0);

    expect(early).toBeUndefined();
    expect(port.sent.map((each) => each[0])).toEqual([1, 50]);
  });
});

describe('packets from the guest', () => {
  test('that are too short or too long for any network are lost, and no harm done', () => {
    const { queues, port, buffers, needsReset } = createNet();

    queues[1]!.offer([{ address: buffers, length: 25 }]);
    queues[1]!.offer([{ address: buffers, length: 70_000 }]);
    queues[1]!.offer([{ address: buffers, length: 26 }]);

    expect([0, 1, 2].map(() => queues[1]!.takeUsed()?.written)).toEqual([0, 0, 0]);
    expect(port.sent.map((each) => each.length)).toEqual([26]);
    expect(needsReset()).toBe(false);
  });

  test('that are lost are counted as errors, and used up all the same', () => {
    const { queues, port, buffers, state } = createNet();
    queues[1]!.offer([{ address: buffers, length: 60 }]);
    queues[1]!.offer([{ address: buffers, length: 25 }]);
    port.gone = true;
    queues[1]!.offer([{ address: buffers, length: 60 }]);

    const counter = (name: keyof typeof QUEUE_COUNTER) =>
      state.counters[QUEUE_COUNTER.size + QUEUE_COUNTER[name]];
    expect([0, 1, 2].map(() => queues[1]!.takeUsed()?.written)).toEqual([0, 0, 0]);
    expect(counter('chains')).toBe(3);
    expect(counter('errors')).toBe(2);
  });

  test('keep to a limit of packets a second, and go on by themselves', () => {
    const ops = { size: 10, burst: 0, refillMs: 1000 };
    const { queues, port, buffers, clock } = createNet({ transmitLimits: { bandwidth: undefined, ops } });
    for (let i = 0; i < 25; i++) queues[1]!.add([{ address: buffers, length: 60 }]);
    queues[1]!.notify();
    const atOnce = port.sent.length;

    clock.advance(1000);

    expect(atOnce).toBe(10);
    expect(port.sent.length).toBeWithin(19, 22);
  });

  test('leave the others on the worker their turn', () => {
    const { queues, port, buffers, clock } = createNet({ ringSize: 256 });
    for (let i = 0; i < 256; i++) queues[1]!.add([{ address: buffers, length: 60 }]);
    queues[1]!.notify();
    for (let i = 0; i < 100; i++) queues[1]!.takeUsed();

    clock.advance(0);

    expect(port.sent).toHaveLength(256);
    expect(clock.pending()).toBe(0);
  });
});

describe.each([false, true])('packets to the guest (packed ring: %p)', (packed) => {
  test('fill as many buffers as they need, and say how many', () => {
    const { queues, port, bytes, buffers, device } = createNet({ packed });
    const ids = Array.from({ length: 4 }, (_, i) =>
      queues[0]!.add([{ address: buffers + 0x1000 * i, length: 500, writable: true }]),
    );
    queues[0]!.notify();
    port.waiting.push(frame(1400));

    device.portReadable(0);

    expect(queues[0]!.takeUsed()).toEqual({ id: ids[0]!, written: 500 });
    expect(queues[0]!.takeUsed()).toEqual({ id: ids[1]!, written: 500 });
    expect(queues[0]!.takeUsed()).toEqual({ id: ids[2]!, written: 412 });
    expect(queues[0]!.takeUsed()).toBeUndefined();
    expect([...bytes.subarray(buffers + 10, buffers + 12)]).toEqual([3, 0]);
    const got = Buffer.concat(
      [0, 1, 2].map((i) => bytes.slice(buffers + 0x1000 * i, buffers + 0x1000 * i + 500)),
    );
    expect(got.subarray(HEADER, HEADER + 1400)).toEqual(Buffer.from(frame(1400)));
  });

  test('come one after the other through many rounds of the ring', () => {
    const { queues, port, bytes, buffers, device } = createNet({ packed, ringSize: 16 });
    const places = new Map<number, number>();
    const refill = (i: number) => {
      const address = buffers + 0x1000 * (i % 16);
      places.set(queues[0]!.add([{ address, length: 600, writable: true }]), address);
    };
    for (let i = 0; i < 16; i++) refill(i);
    let right = 0;

    for (let round = 0, next = 16; round < 500; round++) {
      port.waiting.push(frame(900, round));
      device.portReadable(0);
      const [first, second] = [queues[0]!.takeUsed()!, queues[0]!.takeUsed()!];
      const at = places.get(first.id)!;
      const whole = first.written === 600 && second.written === 312;
      if (whole && bytes[at + 10] === 2 && bytes[at + HEADER] === (round & 0xff)) right++;
      refill(next++);
      refill(next++);
      queues[0]!.notify();
    }

    expect(right).toBe(500);
  });
});

describe('packets to the guest', () => {
  test('wait while there are no buffers', () => {
    const { queues, port, buffers, device } = createNet();
    port.waiting.push(frame(60));
    device.portReadable(0);

    const before = port.waiting.length;
    queues[0]!.offer([{ address: buffers, length: 2048, writable: true }]);

    expect(before).toBe(1);
    expect(port.waiting).toHaveLength(0);
    expect(queues[0]!.takeUsed()?.written).toBe(72);
  });

  test('go into one buffer each where the driver cannot put them together', () => {
    const { queues, port, bytes, buffers, device } = createNet({ features: [] });
    const ids = [0, 1].map((i) =>
      queues[0]!.add([{ address: buffers + 0x1000 * i, length: 2048, writable: true }]),
    );
    queues[0]!.notify();
    bytes[buffers + 10] = 9;
    port.waiting.push(frame(60), frame(1500));

    device.portReadable(0);

    expect(queues[0]!.takeUsed()).toEqual({ id: ids[0]!, written: 72 });
    expect(queues[0]!.takeUsed()).toEqual({ id: ids[1]!, written: 1512 });
    expect([...bytes.subarray(buffers + 10, buffers + 12)]).toEqual([1, 0]);
    expect(port.largestTarget).toBe(2048);
  });

  test('that do not fit are lost, not cut off, and the buffer serves for the next', () => {
    const { queues, port, buffers, device } = createNet({ features: [] });
    const id = queues[0]!.offer([{ address: buffers, length: 200, writable: true }]);
    port.waiting.push(frame(400), frame(60));

    device.portReadable(0);

    expect(queues[0]!.takeUsed()).toEqual({ id, written: 72 });
  });

  test('are as long as segmentation offload makes them only if the driver agreed to it', () => {
    const features = [F.mrgRxbuf, F.guestCsum, F.guestTso4];
    const { queues, port, buffers, device, offloads } = createNet({ features, ringSize: 256 });
    for (let i = 0; i < 200; i++) {
      queues[0]!.add([{ address: buffers + 1536 * i, length: 1536, writable: true }]);
    }
    queues[0]!.notify();
    port.waiting.push(frame(65_000));

    device.portReadable(0);

    const used = Array.from({ length: 43 }, () => queues[0]!.takeUsed()?.written ?? 0);
    expect(used.reduce((sum, each) => sum + each, 0)).toBe(65_012);
    expect(port.largestTarget).toBeGreaterThan(65_550);
    expect(offloads).toEqual([{ csum: true, tso4: true, tso6: false, ecn: false, ufo: false }]);
  });

  test('find their header also where it is in pieces of one byte', () => {
    const { queues, port, bytes, buffers, device } = createNet();
    const pieces = Array.from({ length: 12 }, (_, i) => ({
      address: buffers + 8 * i,
      length: 1,
      writable: true,
    }));
    queues[0]!.offer([...pieces, { address: buffers + 0x1000, length: 2000, writable: true }]);
    port.waiting.push(frame(60));

    device.portReadable(0);

    expect([bytes[buffers + 80], bytes[buffers + 88]]).toEqual([1, 0]);
    expect([...bytes.subarray(buffers + 0x1000, buffers + 0x1003)]).toEqual([1, 2, 3]);
  });

  test('keep to a limit of bytes a second', () => {
    const bandwidth = { size: 5_000, burst: 0, refillMs: 1000 };
    const net = createNet({ receiveLimits: { bandwidth, ops: undefined } });
    const { queues, port, buffers, device, clock } = net;
    for (let i = 0; i < 32; i++) queues[0]!.add([{ address: buffers, length: 1024, writable: true }]);
    queues[0]!.notify();
    for (let i = 0; i < 20; i++) port.waiting.push(frame(988));
    device.portReadable(0);
    const atOnce = 20 - port.waiting.length;

    clock.advance(1000);

    expect(atOnce).toBe(5);
    expect(20 - port.waiting.length).toBeWithin(9, 12);
  });

  test('are not touched any more after a reset', () => {
    const ops = { size: 1, burst: 0, refillMs: 1000 };
    const net = createNet({ receiveLimits: { bandwidth: undefined, ops } });
    net.queues[0]!.add([{ address: net.buffers, length: 2048, writable: true }]);
    net.queues[0]!.notify();
    net.port.waiting.push(frame(60), frame(60));
    net.device.portReadable(0);

    net.write(R.status, 0);

    expect(net.clock.pending()).toBe(0);
    net.device.portReadable(0);
    expect(net.port.waiting).toHaveLength(1);
  });
});

/** Sends a control command and returns its ack. */
function ask(net: ReturnType<typeof createNet>, queue: number, command: number[]) {
  net.bytes.set(command, net.buffers);
  net.bytes[net.buffers + 0x100] = 0xff;
  net.queues[queue]!.offer([
    { address: net.buffers, length: command.length },
    { address: net.buffers + 0x100, length: 1, writable: true },
  ]);
  return net.bytes[net.buffers + 0x100];
}

describe('the control queue', () => {
  test('switches pairs of queues on, as many as there are', () => {
    const net = createNet({ options: { pairs: 4 }, features: [F.mrgRxbuf, F.ctrlVq, F.mq] });

    expect(ask(net, 8, [4, 0, 3, 0])).toBe(0);
    expect(ask(net, 8, [4, 0, 0, 0])).toBe(1);
    expect(ask(net, 8, [4, 0, 5, 0])).toBe(1);
    expect(ask(net, 8, [4, 0, 4])).toBe(1);
    expect(net.active).toEqual([1, 3]);
  });

  test('is the third queue for a driver that knows only one pair', () => {
    const net = createNet({ options: { pairs: 4 }, features: [F.mrgRxbuf, F.ctrlVq] });

    expect(ask(net, 2, [4, 0, 2, 0])).toBe(1);
    expect(net.active).toEqual([1]);
  });

  test('switches offloads off and on, of those that were agreed on', () => {
    const features = [F.mrgRxbuf, F.ctrlVq, F.ctrlGuestOffloads, F.guestCsum, F.guestTso4];
    const net = createNet({ features });

    expect(ask(net, 2, [5, 0, 2, 0, 0, 0, 0, 0, 0, 0])).toBe(0);
    expect(ask(net, 2, [5, 0, 0x82, 1, 0, 0, 0, 0, 0, 0])).toBe(0);
    expect(ask(net, 2, [5, 0, 0, 0])).toBe(1);
    expect(net.offloads.map(({ csum, tso4, tso6 }) => [csum, tso4, tso6])).toEqual([
      [true, true, false],
      [true, false, false],
      [true, true, false],
    ]);
  });

  test('says no to what it does not know', () => {
    const net = createNet({ features: [F.mrgRxbuf, F.ctrlVq] });

    expect(ask(net, 2, [0, 0, 1])).toBe(1);
    expect(ask(net, 2, [])).toBe(1);
    expect(net.needsReset()).toBe(false);
  });
});

describe('a restored network device', () => {
  const ANNOUNCING = [F.mrgRxbuf, F.mac, F.status, F.ctrlVq, F.guestAnnounce];
  const [STATUS, LINK_UP, ANNOUNCE] = [R.config + 6, 1, 2];

  test('asks its driver to announce the guest, until the driver says that it did', () => {
    const net = createNet({ features: ANNOUNCING });
    const there = net.move();
    const asked = [net.read(STATUS, 2), net.read(R.interruptStatus)];
    net.write(R.interruptAck, 3);

    const ack = ask(net, 2, [3, 0]);

    expect(asked).toEqual([LINK_UP | ANNOUNCE, 2]);
    expect(ack).toBe(0);
    expect(net.read(STATUS, 2)).toBe(LINK_UP);
    expect(net.read(R.interruptStatus)).toBe(1);
    expect(there.port.sent).toEqual([]);
  });

  test('asks again in the next machine, and not after a reset of the driver', () => {
    const net = createNet({ features: ANNOUNCING });
    net.move();
    net.move();
    const asked = net.read(STATUS, 2);

    net.start();

    expect(asked).toBe(LINK_UP | ANNOUNCE);
    expect(net.read(STATUS, 2)).toBe(LINK_UP);
  });

  test('refuses an acknowledgement of announcements that were not agreed on', () => {
    const net = createNet({ features: [F.mrgRxbuf, F.ctrlVq] });

    expect(ask(net, 2, [3, 0])).toBe(1);
  });

  test('announces a guest that cannot itself, by the address that its driver found', () => {
    const net = createNet({ features: [F.mrgRxbuf, F.mac] });
    const there = net.move({ mac: Uint8Array.of(2, 0, 0, 0, 0, 9) });

    const mac = Buffer.from(MAC).toString('hex');
    expect(there.port.sent.map((packet) => Buffer.from(packet).toString('hex'))).toEqual([
      [
        '00'.repeat(HEADER),
        `ffffffffffff${mac}8035`,
        `0001080006040003${mac}00000000${mac}00000000`,
        '00'.repeat(60 - 14 - 28),
      ].join(''),
    ]);
    expect(net.read(R.config + 5, 1)).toBe(9);
  });

  test('announces by the same address again after a second move', () => {
    const net = createNet({ features: [F.mrgRxbuf, F.mac] });
    net.move({ mac: Uint8Array.of(2, 0, 0, 0, 0, 9) });

    const there = net.move({ mac: Uint8Array.of(2, 0, 0, 0, 0, 8) });

    expect(there.port.sent[0]!.subarray(HEADER + 6, HEADER + 12)).toEqual(MAC);
  });

  test('announces nobody whose address it does not know', () => {
    expect(createNet({ features: [F.mrgRxbuf] }).move().port.sent).toEqual([]);
  });

  test('keeps the offloads and the pairs of queues that its driver has switched', () => {
    const features = [
      ...[F.mrgRxbuf, F.ctrlVq, F.mq, F.ctrlGuestOffloads, F.guestCsum, F.guestTso4, F.guestAnnounce],
    ];
    const net = createNet({ features, options: { pairs: 4 } });
    ask(net, 8, [4, 0, 3, 0]);
    ask(net, 8, [5, 0, 2, 0, 0, 0, 0, 0, 0, 0]);

    const there = net.move();

    expect(there.active.at(-1)).toBe(3);
    expect(there.offloads.at(-1)).toEqual({ csum: true, tso4: false, tso6: false, ecn: false, ufo: false });
  });

  test.each([false, true])('receives into buffers that were fetched before (packed ring: %p)', (packed) => {
    const net = createNet({ packed });
    const ids = [0, 1, 2, 3].map((i) =>
      net.queues[0]!.offer([{ address: net.buffers + 0x1000 * i, length: 0x1000, writable: true }]),
    );
    net.port.waiting.push(frame(100));
    net.device.portReadable(0);
    const first = net.queues[0]!.takeUsed();

    const there = net.move();
    there.port.waiting.push(frame(200), frame(300));
    there.device.portReadable(0);

    const used = [first, net.queues[0]!.takeUsed(), net.queues[0]!.takeUsed(), net.queues[0]!.takeUsed()];
    expect(used).toEqual([
      { id: ids[0]!, written: HEADER + 100 },
      { id: ids[1]!, written: HEADER + 200 },
      { id: ids[2]!, written: HEADER + 300 },
      undefined,
    ]);
    expect(net.bytes.slice(net.buffers + 0x1000 + HEADER, net.buffers + 0x1000 + HEADER + 200)).toEqual(
      frame(200),
    );
  });

  test('sends the packet that did not go out before, once', () => {
    const net = createNet();
    net.port.full = true;
    net.bytes.set(frame(60), net.buffers + HEADER);
    const id = net.queues[1]!.offer([{ address: net.buffers, length: HEADER + 60 }]);

    const there = net.move();

    expect(there.port.sent.map((packet) => packet.slice(HEADER))).toEqual([frame(60)]);
    expect([net.queues[1]!.takeUsed(), net.queues[1]!.takeUsed()]).toEqual([{ id, written: 0 }, undefined]);
  });
});

describe('a hostile driver', () => {
  test.each([
    ['receive buffers that cannot be written', 0, false, 2048],
    ['receive buffers without room for a header', 0, true, 11],
    ['control commands without room for an answer', 2, false, 4],
  ])('gets NEEDS_RESET for %s', (_, queue, writable, length) => {
    const net = createNet({ features: [F.mrgRxbuf, F.ctrlVq] });
    net.port.waiting.push(frame(60));

    net.queues[queue]!.offer([{ address: net.buffers, length, writable }]);

    expect(net.needsReset()).toBe(true);
    expect(net.failures).toHaveLength(1);
  });

  test.each([0, 1, 2])(
    'gets NEEDS_RESET for a wild descriptor in queue %d, and a second life after',
    (queue) => {
      const net = createNet({ features: [F.mrgRxbuf, F.ctrlVq] });
      net.port.waiting.push(frame(60));
      net.queues[queue]!.offer([{ address: 2 ** 40, length: 100, writable: queue === 0 }]);
      const broken = net.needsReset();

      const [, transmit] = net.start();
      transmit!.offer([{ address: net.buffers, length: 60 }]);

      expect(broken).toBe(true);
      expect(net.needsReset()).toBe(false);
      expect(net.port.sent).toHaveLength(1);
    },
  );

  test('with random rings breaks its own device at most', () => {
    const random = seededRandom(6);
    const features = [F.mrgRxbuf, F.ctrlVq, F.guestCsum, F.guestTso4];
    const net = createNet({ features, ramBytes: 0x10_0000 });
    let broken = 0;

    for (let round = 0; round < 20_000; round++) {
      const queues = net.needsReset() || round === 0 ? net.start() : net.queues;
      const queue = random.int(0, 2);
      const ring = queue * RING_SPACE;
      for (let i = random.int(1, 4); i > 0; i--) {
        const at = ring + DESCRIPTORS + 16 * random.int(0, 7);
        const address = random.pick([net.buffers, net.buffers + 0x8000, 0xf_fff0, 2 ** 33]);
        putWords(
          net.view,
          at,
          address,
          random.pick([0, 1, 12, 60, 1514, 70_000]),
          random.int(0, 3),
          random.int(0, 7),
        );
      }
      net.view.setUint16(ring + DRIVER_AREA + 4 + 2 * random.int(0, 63), random.int(0, 9), true);
      net.view.setUint16(ring + DRIVER_AREA + 2, random.int(0, 12), true);
      net.port.waiting.push(frame(random.int(1, 3000)));
      net.device.portReadable(0);
      queues[queue]!.notify();
      net.clock.advance(1);
      net.port.sent.length = 0;
      net.port.waiting.length = 0;
      if (net.needsReset()) broken++;
    }

    expect(broken).toBeGreaterThan(1000);
    expect(broken).toBeLessThan(20_000);
  });
});
