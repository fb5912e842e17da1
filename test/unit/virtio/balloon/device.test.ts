import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  BalloonDevice,
  describeBalloon,
  type BalloonOptions,
} from '../../../../src/virtio/balloon/device.ts';
import { BALLOON_COUNTER, BALLOON_WORD, createBalloonState } from '../../../../src/virtio/balloon/state.ts';
import { BALLOON_FEATURE as F } from '../../../../src/virtio/balloon/regs.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { seededRandom } from '../../support/random.ts';
import { createDeviceBench, createTestClock, RING_SPACE } from '../device-bench.ts';
import { DESCRIPTORS, DRIVER_AREA, HOST_BASE, putWords } from '../test-ram.ts';

setDefaultTimeout(60_000);

const RAM_BYTES = 0x40_0000;
const PAGE = 4096;

function createBalloon(features: readonly number[] = [], options: Partial<BalloonOptions> = {}) {
  const all = { pages: 0, deflateOnOom: true, statsSeconds: 5, ...options };
  const clock = createTestClock();
  const released: [number, number][] = [];
  const state = createBalloonState(all.pages);
  const effects = {
    release: (host: number, bytes: number) => void released.push([(host - HOST_BASE) / PAGE, bytes / PAGE]),
    after: clock.after,
  };
  const device = new BalloonDevice(state, effects, all.statsSeconds);
  const bench = createDeviceBench(describeBalloon(all), device, features, { ramBytes: RAM_BYTES });
  const queues = bench.start();
  const give = (queue: number, pages: readonly number[]) => {
    pages.forEach((page, i) => bench.view.setUint32(bench.buffers + 4 * i, page, true));
    return queues[queue]!.offer([{ address: bench.buffers, length: 4 * pages.length }]);
  };
  return { ...bench, shared: state, device, queues, released, clock, give };
}

describe('inflating', () => {
  test('releases the pages that the guest gives, neighbours together, up or down', () => {
    const { give, released, queues, shared } = createBalloon();

    const id = give(0, [100, 101, 102, 300, 50, 49, 48]);

    expect(released).toEqual([
      [100, 3],
      [300, 1],
      [48, 3],
    ]);
    expect(queues[0]!.takeUsed()).toEqual({ id, written: 0 });
    expect(shared.stats[BALLOON_COUNTER.inflatedBytes]).toBe(7 * PAGE);
  });

  test('of a page that is not RAM breaks the device, and releases nothing else', () => {
    const { give, released, needsReset } = createBalloon();

    give(0, [RAM_BYTES / PAGE]);

    expect(released).toEqual([]);
    expect(needsReset()).toBe(true);
  });
});

test('deflating is answered, and nothing happens', () => {
  const { give, released, queues } = createBalloon();

  const id = give(1, [100, 101]);

  expect(queues[1]!.takeUsed()).toEqual({ id, written: 0 });
  expect(released).toEqual([]);
});

describe('the size', () => {
  test('that is wanted is told at the start, and when it changes', () => {
    const { read, shared, device, interrupts } = createBalloon([], { pages: 512 });
    const [before, atFirst] = [interrupts(), read(R.config)];
    Atomics.store(shared.words, BALLOON_WORD.wantedPages, 1024);

    device.updateTarget();

    expect(atFirst).toBe(512);
    expect(read(R.config)).toBe(1024);
    expect(interrupts()).toBe(before + 1);
  });

  test('that the driver reached is what it writes', () => {
    const { write, shared, read } = createBalloon();

    write(R.config + 4, 0x12345);

    expect(shared.words[BALLOON_WORD.actualPages]).toBe(0x12345);
    expect(read(R.config + 4)).toBe(0x12345);
  });

  test('that is wanted cannot be changed by the driver', () => {
    const { write, read } = createBalloon([], { pages: 512 });

    write(R.config, 7);

    expect(read(R.config)).toBe(512);
  });
});

describe('free pages', () => {
  test.each([
    ['with statistics', [F.statsVq, F.pageReporting], 3],
    ['without statistics', [F.pageReporting], 2],
  ])('that the guest reports are released (%s)', (_, features, queue) => {
    const { queues, released, buffers, shared } = createBalloon(features);

    const id = queues[queue]!.offer([
      { address: buffers, length: 16 * PAGE, writable: true },
      { address: buffers + 0x10_0000 + 100, length: 4 * PAGE, writable: true },
    ]);

    expect(released).toEqual([
      [buffers / PAGE, 16],
      [(buffers + 0x10_1000) / PAGE, 3],
    ]);
    expect(queues[queue]!.takeUsed()).toEqual({ id, written: 0 });
    expect(shared.stats[BALLOON_COUNTER.reportedBytes]).toBe(19 * PAGE);
  });
});

describe('statistics', () => {
  const offer = (balloon: ReturnType<typeof createBalloon>, stats: readonly [number, number][]) => {
    const { view, buffers, queues } = balloon;
    stats.forEach(([tag, value], i) => {
      view.setUint16(buffers + 10 * i, tag, true);
      view.setUint32(buffers + 10 * i + 2, value % 2 ** 32, true);
      view.setUint32(buffers + 10 * i + 6, Math.floor(value / 2 ** 32), true);
    });
    return queues[2]!.offer([{ address: buffers, length: 10 * stats.length }]);
  };

  test('are read, and asked for again after a while', () => {
    const balloon = createBalloon([F.statsVq]);
    const id = offer(balloon, [
      [4, 5 * 2 ** 32],
      [5, 123],
      [77, 1],
    ]);
    const early = balloon.queues[2]!.takeUsed();

    balloon.clock.advance(5000);

    expect(early).toBeUndefined();
    expect(balloon.queues[2]!.takeUsed()).toEqual({ id, written: 0 });
    expect([...balloon.shared.stats.subarray(3, 6)]).toEqual([NaN, 5 * 2 ** 32, 123]);
    expect(balloon.shared.words[BALLOON_WORD.statsCount]).toBe(1);
  });

  test('that a driver sends twice are no reason to keep both buffers', () => {
    const balloon = createBalloon([F.statsVq]);
    const first = offer(balloon, [[4, 1]]);

    offer(balloon, [[4, 2]]);

    expect(balloon.queues[2]!.takeUsed()).toEqual({ id: first, written: 0 });
    expect(balloon.shared.stats[4]).toBe(2);
  });

  test('are not asked for after a reset', () => {
    const { write, clock } = createBalloon([F.statsVq]);

    write(R.status, 0);

    expect(clock.pending()).toBe(0);
  });
});

describe('a hostile driver', () => {
  test.each([0, 1, 2, 3])('gets NEEDS_RESET for a wild descriptor in queue %d', (queue) => {
    const { queues, needsReset } = createBalloon([F.statsVq, F.pageReporting]);

    queues[queue]!.offer([{ address: 2 ** 45, length: 100, writable: queue === 3 }]);

    expect(needsReset()).toBe(true);
  });

  test('that keeps the worker busy leaves the others their turn', () => {
    const balloon = createBalloon();
    for (let i = 0; i < 64; i++) balloon.queues[0]!.add([{ address: balloon.buffers, length: 4 }]);
    balloon.queues[0]!.notify();
    for (let i = 0; i < 64; i++) balloon.queues[0]!.takeUsed();
    for (let i = 0; i < 64; i++) balloon.queues[0]!.add([{ address: balloon.buffers, length: 4 }]);
    balloon.queues[0]!.notify();
    const before = balloon.released.length;

    balloon.clock.advance(0);

    expect(before).toBe(64);
    expect(balloon.released).toHaveLength(128);
  });

  test('with random rings gives away nothing but RAM', () => {
    const random = seededRandom(5);
    const balloon = createBalloon([F.statsVq, F.pageReporting]);
    let broken = 0;
    for (let round = 0; round < 20_000; round++) {
      if (balloon.needsReset()) {
        broken++;
        balloon.start();
      }
      const queue = random.int(0, 3);
      const ring = queue * RING_SPACE;
      for (let i = random.int(1, 4); i > 0; i--) {
        const address = random.pick([0, balloon.buffers, RAM_BYTES - PAGE, RAM_BYTES, 2 ** 52]);
        const length = random.pick([0, 3, 4096, RAM_BYTES, 2 ** 32 - 1]);
        putWords(
          balloon.view,
          ring + DESCRIPTORS + 16 * random.int(0, 7),
          address,
          length,
          random.int(0, 7),
          random.int(0, 7),
        );
      }
      balloon.view.setUint32(balloon.buffers + 4 * random.int(0, 1023), random.int(0, 2000), true);
      balloon.view.setUint16(ring + DRIVER_AREA + 4 + 2 * random.int(0, 63), random.int(0, 9), true);
      balloon.view.setUint16(ring + DRIVER_AREA + 2, random.int(0, 12), true);
      balloon.queues[queue]!.notify();
      balloon.clock.advance(random.pick([0, 1, 6000]));
    }

    const outside = balloon.released.filter(
      ([page, pages]) => page < 0 || pages <= 0 || page + pages > RAM_BYTES / PAGE || page % 1 !== 0,
    );
    expect(outside).toEqual([]);
    expect(balloon.released.length).toBeGreaterThan(100);
    expect(broken).toBeGreaterThan(1000);
  });
});

test('a restored balloon holds the statistics of its guest again, reads them, and asks for new ones', () => {
  const balloon = createBalloon([F.statsVq], { statsSeconds: 5 });
  const { view, buffers, queues } = balloon;
  view.setUint16(buffers, 4, true);
  view.setUint32(buffers + 2, 123, true);
  view.setUint32(buffers + 6, 0, true);
  const id = queues[2]!.offer([{ address: buffers, length: 10 }]);
  const shared = createBalloonState(0);
  const effects = { release: () => {}, after: balloon.clock.after };

  balloon.move('balloon', new BalloonDevice(shared, effects, 5));
  const held = queues[2]!.takeUsed();
  balloon.clock.advance(5000);

  expect(held).toBeUndefined();
  expect(shared.stats[4]).toBe(123);
  expect(queues[2]!.takeUsed()).toEqual({ id, written: 0 });
});

test('a restored balloon goes on to the saved target', () => {
  const { device, shared, move, read, clock } = createBalloon([], { pages: 256 });
  Atomics.store(shared.words, BALLOON_WORD.wantedPages, 1024);
  device.updateTarget();
  const next = createBalloonState(256);
  // As the main thread does by BalloonControl.
  Atomics.store(next.words, BALLOON_WORD.wantedPages, 1024);

  move('balloon', new BalloonDevice(next, { release: () => {}, after: clock.after }, 5));

  expect(read(R.config)).toBe(1024);
});
