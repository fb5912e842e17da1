import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { CONSOLE_EVENT as EVENT, CONSOLE_FEATURE as F } from '../../../../src/virtio/console/regs.ts';
import {
  ConsoleDevice,
  describeConsole,
  PORT_IO,
  type ConsoleEffects,
} from '../../../../src/virtio/console/device.ts';
import type { IoVector } from '../../../../src/virtio/transport/io-vector.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { seededRandom } from '../../support/random.ts';
import { createDeviceBench, createTestClock, RING_SPACE } from '../device-bench.ts';
import { DESCRIPTORS, DRIVER_AREA, HOST_BASE, putWords } from '../test-ram.ts';

setDefaultTimeout(60_000);

const PORTS = [
  { name: 'first', console: true },
  { name: 'second', console: false },
];

class FakeHost implements ConsoleEffects {
  readonly incoming = PORTS.map(() => Buffer.alloc(0));
  readonly outgoing = PORTS.map(() => Buffer.alloc(0));
  readonly open = PORTS.map(() => false);
  room = Infinity;
  constructor(
    readonly ram: () => Uint8Array,
    readonly after: (delayMs: number, handler: () => void) => () => void,
  ) {}
  read(port: number, target: IoVector): number {
    const bytes = this.incoming[port]!.subarray(0, target.lengthOf(0));
    if (bytes.length === 0) return PORT_IO.wouldBlock;
    this.ram().set(bytes, target.hostOf(0) - HOST_BASE);
    this.incoming[port] = this.incoming[port]!.subarray(bytes.length);
    return bytes.length;
  }
  write(port: number, source: IoVector): number {
    const at = source.hostOf(0) - HOST_BASE;
    const taken = Math.min(this.room, source.lengthOf(0));
    if (taken === 0) return PORT_IO.wouldBlock;
    this.room -= taken;
    this.outgoing[port] = Buffer.concat([this.outgoing[port]!, this.ram().slice(at, at + taken)]);
    return taken;
  }
  isOpen(port: number): boolean {
    return this.open[port]!;
  }
}

function createConsole(features: readonly number[] = [F.multiport]) {
  const clock = createTestClock();
  const host: FakeHost = new FakeHost(() => bench.bytes, clock.after);
  const device = new ConsoleDevice(PORTS, host);
  const bench = createDeviceBench(describeConsole(PORTS.length), device, features);
  const queues = bench.start();
  const messages: { port: number; event: number; value: number; name: string }[] = [];
  const places = new Map<number, number>();
  let place = 0;
  const refill = () => {
    const address = bench.buffers + 128 * (place++ % 64);
    places.set(queues[2]!.add([{ address, length: 128, writable: true }]), address);
  };
  for (let i = 0; i < 32; i++) refill();
  queues[2]!.notify();
  /** Messages that came since the last time. */
  const told = () => {
    messages.length = 0;
    for (let used = queues[2]!.takeUsed(); used; used = queues[2]!.takeUsed()) {
      const at = places.get(used.id)!;
      const { view, bytes } = bench;
      messages.push({
        port: view.getUint32(at, true),
        event: view.getUint16(at + 4, true),
        value: view.getUint16(at + 6, true),
        name: Buffer.from(bytes.slice(at + 8, at + used.written)).toString(),
      });
      refill();
    }
    queues[2]!.notify();
    return [...messages];
  };
  const out = bench.buffers + 0x1_0000;
  const tell = (port: number, event: number, value: number) => {
    bench.view.setUint32(out, port, true);
    bench.view.setUint16(out + 4, event, true);
    bench.view.setUint16(out + 6, value, true);
    queues[3]!.offer([{ address: out, length: 8 }]);
    queues[3]!.takeUsed();
  };
  /** The guest goes on in another machine; `open` ports have a peer there. */
  const move = (open: readonly boolean[] = [false, false]) => {
    const nextHost = new FakeHost(() => bench.bytes, clock.after);
    open.forEach((each, port) => (nextHost.open[port] = each));
    const next = new ConsoleDevice(PORTS, nextHost);
    bench.move('console', next);
    return { host: nextHost, device: next };
  };
  return { ...bench, clock, host, device, queues, told, tell, out, move };
}

/** With both ports ready and open in the guest. */
function openPorts() {
  const each = createConsole();
  each.tell(0, EVENT.deviceReady, 1);
  for (const port of [0, 1]) {
    each.tell(port, EVENT.portReady, 1);
    each.tell(port, EVENT.portOpen, 1);
  }
  each.told();
  return each;
}

describe('ports', () => {
  test('are told to the driver with their names, and which of them is a terminal', () => {
    const { tell, told, host } = createConsole();
    host.open[1] = true;

    tell(0, EVENT.deviceReady, 1);
    const added = told();
    tell(0, EVENT.portReady, 1);
    tell(1, EVENT.portReady, 1);

    expect(added).toEqual([
      { port: 0, event: EVENT.portAdd, value: 1, name: '' },
      { port: 1, event: EVENT.portAdd, value: 1, name: '' },
    ]);
    expect(told()).toEqual([
      { port: 0, event: EVENT.portName, value: 1, name: 'first' },
      { port: 0, event: EVENT.consolePort, value: 1, name: '' },
      { port: 1, event: EVENT.portName, value: 1, name: 'second' },
      { port: 1, event: EVENT.portOpen, value: 1, name: '' },
    ]);
  });

  test('are open as long as somebody is at the other end', () => {
    const { told, host, device } = openPorts();

    host.open[0] = true;
    device.portReady(0);
    device.portReady(0);
    host.open[0] = false;
    device.portReady(0);

    expect(told()).toEqual([
      { port: 0, event: EVENT.portOpen, value: 1, name: '' },
      { port: 0, event: EVENT.portOpen, value: 0, name: '' },
    ]);
  });

  test.each([
    [0, 0, 1],
    [1, 4, 5],
  ])('carry bytes: port %d by queues %d and %d', (port, receive, transmit) => {
    const { queues, host, device, bytes, out } = openPorts();
    bytes.set(Buffer.from('from the guest'), out);
    queues[transmit]!.offer([{ address: out, length: 14 }]);
    const id = queues[receive]!.offer([{ address: out + 100, length: 64, writable: true }]);
    host.incoming[port] = Buffer.from('to the guest');

    device.portReady(port);

    expect(host.outgoing[port]!.toString()).toBe('from the guest');
    expect(queues[receive]!.takeUsed()).toEqual({ id, written: 12 });
    expect(Buffer.from(bytes.slice(out + 100, out + 112)).toString()).toBe('to the guest');
  });

  test('that the guest has not opened get nothing', () => {
    const { queues, host, device, out, tell } = createConsole();
    queues[0]!.offer([{ address: out + 100, length: 64, writable: true }]);
    host.incoming[0] = Buffer.from('early');
    device.portReady(0);
    const early = queues[0]!.takeUsed();

    tell(0, EVENT.portOpen, 1);

    expect(early).toBeUndefined();
    expect(queues[0]!.takeUsed()?.written).toBe(5);
  });

  test('wait for a slow reader in the middle of a buffer, and go on there', () => {
    const { queues, host, device, bytes, out } = openPorts();
    bytes.set(Buffer.from('abcdef'), out);
    host.room = 4;
    const id = queues[1]!.offer([{ address: out, length: 6 }]);
    const early = queues[1]!.takeUsed();
    host.room = Infinity;

    device.portReady(0);

    expect(early).toBeUndefined();
    expect(host.outgoing[0]!.toString()).toBe('abcdef');
    expect(queues[1]!.takeUsed()).toEqual({ id, written: 0 });
  });

  test('of a driver that knows only one are open at once', () => {
    const { queues, host, device, out } = createConsole([]);
    queues[0]!.offer([{ address: out, length: 64, writable: true }]);
    host.incoming[0] = Buffer.from('hello');

    device.portReady(0);

    expect(queues[0]!.takeUsed()?.written).toBe(5);
  });
});

describe('a hostile driver', () => {
  test.each([
    ['a wild address', 1, { address: 2 ** 44, length: 8 }],
    ['receive buffers that cannot be written', 0, { length: 8 }],
  ])('gets NEEDS_RESET for %s', (_, queue, buffer) => {
    const { queues, needsReset, out, host, device } = openPorts();
    host.incoming[0] = Buffer.from('x');

    queues[queue]!.offer([{ address: out, ...buffer }]);
    device.portReady(0);

    expect(needsReset()).toBe(true);
  });

  test('that asks for the ports again and again makes us keep little', () => {
    const { queues, tell, clock, write } = createConsole();
    for (let i = 0; i < 32; i++) queues[2]!.takeUsed();

    for (let i = 0; i < 5000; i++) tell(0, EVENT.deviceReady, 1);

    write(R.status, 0);
    expect(clock.pending()).toBe(0);
  });

  test('with random rings and messages breaks its own device at most', () => {
    const random = seededRandom(3);
    let broken = 0;
    for (let episode = 0; episode < 200; episode++) {
      const each = openPorts();
      for (let round = 0; round < 100 && !each.needsReset(); round++) {
        const queue = random.int(0, 5);
        each.tell(random.int(0, 3), random.int(0, 8), random.int(0, 2));
        each.host.incoming[random.int(0, 1)] = Buffer.alloc(random.int(0, 100));
        each.host.room = random.pick([0, 3, Infinity]);
        each.host.open[random.int(0, 1)] = random.int(0, 1) === 1;
        const writable = queue % 2 === (random.int(0, 99) === 0 ? 1 : 0);
        each.queues[queue]!.offer([{ address: each.out, length: random.int(0, 200), writable }]);
        if (random.int(0, 99) === 0) {
          const at = queue * RING_SPACE + DESCRIPTORS + 16 * random.int(0, 63);
          putWords(each.view, at, random.pick([0, 2 ** 40]), 100, random.int(0, 7), random.int(0, 99));
          each.view.setUint16(queue * RING_SPACE + DRIVER_AREA + 2, random.int(0, 0xffff), true);
        }
        each.device.portReady(random.int(0, 1));
        each.told();
        each.clock.advance(1);
      }
      if (each.needsReset()) broken++;
    }

    expect(broken).toBeWithin(20, 200);
  });
});

test("a buffer to receive into that has no bytes is no driver's, and does not hang up whoever is at the other end", () => {
  const { queues, host, needsReset, failures, buffers } = openPorts();
  let reads = 0;
  host.read = () => {
    reads++;
    return 0;
  };

  queues[0]!.offer([{ address: buffers, length: 0, writable: true }]);

  expect(reads).toBe(0);
  expect(needsReset()).toBe(true);
  expect(failures).toEqual(['queue 0 has a read-only or too short receive buffer']);
});

test('a driver that is given up on in the middle of its messages is left alone at once: no more of them, no timer', () => {
  const { queues, host, view, out, failures, clock, bytes } = createConsole();
  host.open[1] = true;
  // Behind 32 good buffers for messages one that nothing can be written into.
  queues[2]!.add([{ address: out, length: 8 }]);
  view.setUint32(out, 1, true);
  view.setUint16(out + 4, EVENT.portReady, true);
  view.setUint16(out + 6, 1, true);
  for (let i = 0; i < 64; i++) queues[3]!.add([{ address: out, length: 8 }]);

  queues[3]!.notify();
  const [after, timers] = [bytes.slice(), clock.pending()];
  clock.advance(1000);

  expect(failures).toEqual(['queue 2 has a read-only or too short receive buffer']);
  expect(timers).toBe(0);
  expect(Buffer.compare(bytes, after)).toBe(0);
});

describe('restored ports', () => {
  test('are closed for the guest until somebody connects', () => {
    const console = openPorts();
    console.host.open[1] = true;
    console.device.portReady(1);
    console.told();

    const there = console.move();
    const first = console.told();
    there.host.open[1] = true;
    there.device.portReady(1);

    expect(first).toEqual([{ port: 1, event: EVENT.portOpen, value: 0, name: '' }]);
    expect(console.told()).toEqual([{ port: 1, event: EVENT.portOpen, value: 1, name: '' }]);
  });

  test('that were and are open need no message, and what the guest has open gets bytes', () => {
    const console = openPorts();
    console.host.open[1] = true;
    console.device.portReady(1);
    console.told();

    const there = console.move([false, true]);
    there.host.incoming[1] = Buffer.from('hello');
    const id = console.queues[4]!.offer([{ address: console.out, length: 64, writable: true }]);

    expect(console.told()).toEqual([]);
    expect(console.queues[4]!.takeUsed()).toEqual({ id, written: 5 });
  });

  test('that the guest has not opened still get nothing', () => {
    const console = createConsole();
    console.tell(0, EVENT.deviceReady, 1);

    const there = console.move();
    there.host.incoming[1] = Buffer.from('hello');
    console.queues[4]!.offer([{ address: console.out, length: 64, writable: true }]);

    expect(console.queues[4]!.takeUsed()).toBeUndefined();
  });

  test('go on in the middle of a buffer', () => {
    const console = openPorts();
    console.host.room = 5;
    console.bytes.set(Buffer.from('hello, host'), console.out);
    const id = console.queues[5]!.offer([{ address: console.out, length: 11 }]);

    const there = console.move();

    expect(console.host.outgoing[1]!.toString()).toBe('hello');
    expect(there.host.outgoing[1]!.toString()).toBe(', host');
    expect(console.queues[5]!.takeUsed()).toEqual({ id, written: 0 });
  });

  test('are told to a driver that had no buffers for that yet', () => {
    const { queues, tell, told, move, bench } = withoutMessageBuffers();
    tell(0, EVENT.deviceReady, 1);
    for (const port of [0, 1]) tell(port, EVENT.portReady, 1);

    move();
    move([true, false]);
    for (let i = 0; i < 16; i++)
      queues[2]!.add([{ address: bench.buffers + 128 * i, length: 128, writable: true }]);
    queues[2]!.notify();

    expect(told(bench.buffers)).toEqual([
      [0, EVENT.portAdd, 1, ''],
      [0, EVENT.portName, 1, 'first'],
      [0, EVENT.consolePort, 1, ''],
      [0, EVENT.portOpen, 1, ''],
      [1, EVENT.portAdd, 1, ''],
      [1, EVENT.portName, 1, 'second'],
    ]);
  });

  test('of a driver that knows only one port are open at once', () => {
    const console = createConsole([]);

    const there = console.move();
    there.host.incoming[0] = Buffer.from('hello');
    const id = console.queues[0]!.offer([{ address: console.out, length: 64, writable: true }]);

    expect(console.queues[0]!.takeUsed()).toEqual({ id, written: 5 });
  });
});

/** A driver that gives no buffers for messages. */
function withoutMessageBuffers() {
  const clock = createTestClock();
  const hostOf = (open: readonly boolean[]) => {
    const host: FakeHost = new FakeHost(() => bench.bytes, clock.after);
    open.forEach((each, port) => (host.open[port] = each));
    return host;
  };
  const device = new ConsoleDevice(PORTS, hostOf([false, false]));
  const bench = createDeviceBench(describeConsole(PORTS.length), device, [F.multiport]);
  const queues = bench.start();
  const out = bench.buffers + 0x1_0000;
  const tell = (port: number, event: number, value: number) => {
    bench.view.setUint32(out, port, true);
    bench.view.setUint16(out + 4, event, true);
    bench.view.setUint16(out + 6, value, true);
    queues[3]!.offer([{ address: out, length: 8 }]);
    queues[3]!.takeUsed();
  };
  /** Messages in buffers of 128 bytes from `first` on. */
  const told = (first: number) => {
    const messages: [number, number, number, string][] = [];
    for (let at = first, used = queues[2]!.takeUsed(); used; at += 128, used = queues[2]!.takeUsed()) {
      const { view, bytes } = bench;
      const name = Buffer.from(bytes.slice(at + 8, at + used.written)).toString();
      messages.push([
        view.getUint32(at, true),
        view.getUint16(at + 4, true),
        view.getUint16(at + 6, true),
        name,
      ]);
    }
    return messages;
  };
  const move = (open: readonly boolean[] = [false, false]) =>
    bench.move('console', new ConsoleDevice(PORTS, hostOf(open)));
  return { bench, queues, tell, told, move };
}
