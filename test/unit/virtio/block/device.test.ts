import { describe, expect, test } from 'bun:test';
import { BLOCK_OP, type BlockRequest } from '../../../../src/virtio/block/request.ts';
import { describeBlock, type BlockShape } from '../../../../src/virtio/block/description.ts';
import { BlockDevice, type BlockBackend, type BlockEffects } from '../../../../src/virtio/block/device.ts';
import type { DeviceContext } from '../../../../src/virtio/transport/device.ts';
import type { RateLimits } from '../../../../src/virtio/transport/rate-limiter.ts';
import { SplitQueue } from '../../../../src/virtio/transport/split-queue.ts';
import { BUFFERS, createTestRam, HOST_BASE, setupFor, splitDriver, type TestBuffer } from '../test-ram.ts';

const SIZE = 64;
const SHAPE: BlockShape = {
  id: 'root',
  sectors: 100,
  readOnly: false,
  queues: 1,
  blockBytes: 512,
  flush: true,
};
const NO_LIMITS: RateLimits = { bandwidth: undefined, ops: undefined };
const STATUS = BUFFERS + 0x8000;

/** Keeps requests until the test ends them. */
class HeldBackend implements BlockBackend {
  readonly started: BlockRequest[] = [];
  finish: (request: BlockRequest, errno: number) => void = () => {};

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.finish = finish;
  }
  start(request: BlockRequest): void {
    this.started.push(request);
  }
  commit(): void {}
  flush(): number {
    return 0;
  }

  drain(): void {
    this.started.splice(0).forEach((request) => this.finish(request, 0));
  }
}

function createBench(
  shape: Partial<BlockShape> = {},
  limits: RateLimits = NO_LIMITS,
  more: Partial<BlockEffects> = {},
) {
  const memory = createTestRam(0x4_0000);
  const queue = new SplitQueue(memory.ram, setupFor(SIZE), { indirect: true, eventIndex: false });
  const backend = new HeldBackend();
  const timers: { delayMs: number; handler: () => void }[] = [];
  const clock = { now: 0 };
  const effects: BlockEffects = {
    ...more,
    now: () => clock.now,
    after: (delayMs: number, handler: () => void) => {
      timers.push({ delayMs, handler });
      return () => {};
    },
  };
  const device = new BlockDevice({ ...SHAPE, ...shape }, backend, effects, limits);
  const failures: string[] = [];
  let interrupts = 0;
  const context: DeviceContext = {
    ram: memory.ram,
    queues: [queue],
    hasFeature: () => true,
    interrupt: () => interrupts++,
    fail: (reason) => failures.push(reason),
    setConfig: () => {},
    config: () => 0,
    queueSetup: () => undefined,
    reclaimQueues: () => false,
    count: () => {},
    countError: () => {},
  };
  device.activate(context);
  const driver = splitDriver(memory, SIZE);
  /** Header at BUFFERS, data, status; notified. */
  const ask = (type: number, sector: number, data: readonly TestBuffer[] = [], at = BUFFERS) => {
    memory.view.setUint32(at, type, true);
    memory.view.setUint32(at + 8, sector, true);
    memory.bytes[STATUS] = 0xaa;
    driver.add([{ address: at, length: 16 }, ...data, { address: STATUS, length: 1, writable: true }]);
    device.processQueue(0);
  };
  const ranges = (...list: [sector: number, count: number, flags: number][]): TestBuffer => {
    list.forEach(([sector, count, flags], i) => {
      const at = BUFFERS + 0x100 + 16 * i;
      [sector, 0, count, flags].forEach((word, j) => memory.view.setUint32(at + 4 * j, word, true));
    });
    return { address: BUFFERS + 0x100, length: 16 * list.length };
  };
  const status = () => memory.bytes[STATUS];
  return {
    ...memory,
    device,
    backend,
    driver,
    ask,
    ranges,
    status,
    failures,
    timers,
    clock,
    interrupts: () => interrupts,
  };
}

describe('a block request', () => {
  test('reads whole sectors into the buffers, and has its status last', () => {
    const { ask, backend, driver, status } = createBench();
    ask(0, 7, [
      { address: BUFFERS + 0x1000, length: 512, writable: true },
      { address: BUFFERS + 0x3000, length: 1024, writable: true },
    ]);
    const [request] = backend.started;
    const pieces = [0, 1].map((i) => [request!.iovecAddress(i) - HOST_BASE, request!.iovecLength(i)]);
    const before = driver.takeUsed();
    request!.advance(1536);
    backend.finish(request!, 0);

    expect([request!.op, request!.offset, request!.bytes]).toEqual([BLOCK_OP.read, 7 * 512, 1536]);
    expect(pieces).toEqual([
      [BUFFERS + 0x1000, 512],
      [BUFFERS + 0x3000, 1024],
    ]);
    expect(before).toBeUndefined();
    expect(driver.takeUsed()).toEqual({ id: 0, written: 1537 });
    expect(status()).toBe(0);
  });

  test('may have header, data and status in any buffers', () => {
    const { backend, view, bytes, driver, device } = createBench();
    view.setUint32(BUFFERS, 1, true);
    view.setUint32(BUFFERS + 0x108, 0, true);
    view.setUint32(BUFFERS + 0x100, 9, true);
    driver.add([
      { address: BUFFERS, length: 8 },
      { address: BUFFERS + 0x100, length: 8 + 100 },
      { address: BUFFERS + 0x200, length: 412 },
      { address: BUFFERS + 0x400, length: 3, writable: true },
    ]);
    device.processQueue(0);

    const [request] = backend.started;
    expect([request!.op, request!.offset, request!.bytes]).toEqual([BLOCK_OP.write, 9 * 512, 512]);
    expect([request!.iovecAddress(0) - HOST_BASE, request!.iovecLength(0)]).toEqual([BUFFERS + 0x108, 100]);
    backend.drain();
    expect([bytes[BUFFERS + 0x400], bytes[BUFFERS + 0x402]]).toEqual([0, 0]);
  });

  test('that failed half-way tells the driver so, and how much is there', () => {
    const { ask, backend, driver, status } = createBench();
    ask(0, 0, [{ address: BUFFERS + 0x1000, length: 1024, writable: true }]);
    const [request] = backend.started;
    request!.advance(512);

    backend.finish(request!, 5);

    expect(status()).toBe(1);
    expect(driver.takeUsed()).toEqual({ id: 0, written: 512 });
  });

  test('of several in flight may end before those that came first', () => {
    const { ask, backend, driver } = createBench();
    const into = [{ address: BUFFERS + 0x1000, length: 512, writable: true }];
    [0, 1, 2].forEach((sector) => ask(0, sector, into));

    [2, 0, 1].forEach((i) => backend.finish(backend.started[i]!, 0));

    expect([driver.takeUsed()?.id, driver.takeUsed()?.id, driver.takeUsed()?.id]).toEqual([6, 0, 3]);
  });

  test('tells the name of the disk', () => {
    const { ask, bytes, driver, status } = createBench();

    ask(8, 0, [{ address: BUFFERS + 0x1000, length: 20, writable: true }]);

    expect(Buffer.from(bytes.subarray(BUFFERS + 0x1000, BUFFERS + 0x1014)).toString()).toBe(
      'root'.padEnd(20, '\0'),
    );
    expect(driver.takeUsed()).toEqual({ id: 0, written: 21 });
    expect(status()).toBe(0);
  });

  const out = (length: number) => [{ address: BUFFERS + 0x1000, length }];
  const into = (length: number) => [{ address: BUFFERS + 0x1000, length, writable: true }];
  test.each<[string, number, number, readonly TestBuffer[], number]>([
    ['a read behind the end', 0, 100, into(512), 1],
    ['a read over the end', 0, 99, into(1024), 1],
    ['a read far behind the end', 0, 0xffff_ffff, into(512), 1],
    ['a read of part of a sector', 0, 0, into(100), 1],
    ['a read of nothing', 0, 0, [], 1],
    ['a write over the end', 1, 99, out(1024), 1],
    ['a write of part of a sector', 1, 0, out(513), 1],
    ['a request that nobody knows', 77, 0, out(512), 2],
  ])('that makes no sense reaches no disk: %s', (_name, type, sector, data, expected) => {
    const { ask, backend, status, failures } = createBench();

    ask(type, sector, data);

    expect(status()).toBe(expected);
    expect(backend.started).toEqual([]);
    expect(failures).toEqual([]);
  });

  test.each([
    ['a write', 1, [{ address: BUFFERS + 0x1000, length: 512 }]],
    ['a discard', 11, [{ address: BUFFERS + 0x1000, length: 16 }]],
  ])('does not change a read-only disk: %s', (_name, type, data) => {
    const { ask, backend, status } = createBench({ readOnly: true });

    ask(type, 0, data);

    expect(status()).toBe(1);
    expect(backend.started).toEqual([]);
  });

  test.each([
    [
      'no header',
      [
        { address: BUFFERS, length: 15 },
        { address: STATUS, length: 1, writable: true },
      ],
    ],
    ['no status', [{ address: BUFFERS, length: 16 }]],
  ])('with %s makes the device give up', (_name, buffers) => {
    const { driver, device, failures } = createBench();
    driver.add(buffers);

    device.processQueue(0);

    expect(failures).toEqual(['a block request has no room for its header or status byte']);
  });
});

describe('discards and zeroes', () => {
  test('are carried out range by range, and end once', () => {
    const { ask, ranges, backend, driver, status } = createBench();

    ask(13, 0, [ranges([4, 8, 1], [50, 50, 0])]);
    backend.finish(backend.started[0]!, 0);
    const early = driver.takeUsed();
    const { op, offset, bytes, mayUnmap } = backend.started[1]!;
    backend.finish(backend.started[1]!, 0);

    expect(early).toBeUndefined();
    expect([op, offset, bytes, mayUnmap]).toEqual([BLOCK_OP.zero, 4 * 512, 8 * 512, true]);
    expect(driver.takeUsed()).toEqual({ id: 0, written: 1 });
    expect(status()).toBe(0);
  });

  test.each<[string, number, [number, number, number], number]>([
    ['over the end', 11, [90, 11, 0], 1],
    ['of nothing', 13, [0, 0, 0], 1],
    ['a flag that discards do not know', 11, [0, 8, 1], 2],
    ['a flag that nobody knows', 13, [0, 8, 2], 2],
  ])('that make no sense reach no disk: %s', (_name, type, range, expected) => {
    const { ask, ranges, backend, status } = createBench();

    ask(type, 0, [ranges([0, 8, 0], range)]);

    expect(status()).toBe(expected);
    expect(backend.started).toEqual([]);
  });
});

describe('a reset', () => {
  test('waits for what is in flight, and then touches the guest no more', () => {
    const { ask, device, backend, driver, status } = createBench();
    ask(0, 0, [{ address: BUFFERS + 0x1000, length: 512, writable: true }]);

    device.reset();
    device.processQueue(0);

    expect(backend.started).toEqual([]);
    expect(status()).toBe(0xaa);
    expect(driver.takeUsed()).toBeUndefined();
  });
});

describe('a rate limit', () => {
  test('lets requests through as tokens come', () => {
    const ops = { size: 2, burst: 0, refillMs: 1000 };
    const { ask, backend, timers, clock } = createBench({}, { bandwidth: undefined, ops });
    const into = [{ address: BUFFERS + 0x1000, length: 512, writable: true }];
    [0, 1, 2, 3].forEach((sector) => ask(0, sector, into));
    const atOnce = backend.started.length;
    const [first] = timers;

    clock.now = first!.delayMs;
    first!.handler();

    expect(atOnce).toBe(2);
    expect(first!.delayMs).toBeGreaterThanOrEqual(500);
    expect(backend.started.length).toBe(3);
    expect(timers.length).toBe(2);
  });
});

describe('the configuration space', () => {
  test('holds what virtio 1.2 §5.2.4 lists', () => {
    const { config, features, queueSizes } = describeBlock({ ...SHAPE, queues: 2, blockBytes: 4096 });
    const view = new DataView(config.buffer);

    expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([100, 0]);
    expect(view.getUint32(20, true)).toBe(4096);
    expect(view.getUint16(34, true)).toBe(2);
    expect(config.length).toBe(60);
    expect(queueSizes.length).toBe(2);
    expect(features).toContain(12);
  });

  test.each([
    [{ readOnly: true }, 5, true],
    [{ readOnly: true }, 13, false],
    [{ readOnly: false }, 13, true],
    [{ flush: false }, 9, false],
    [{ flush: true }, 9, true],
  ])('%j has feature %d: %p', (change, feature, offered) => {
    expect(describeBlock({ ...SHAPE, ...change }).features.includes(feature)).toBe(offered);
  });
});

describe('a change of a running disk', () => {
  test('of its limits takes effect at once for requests that wait', () => {
    const ops = { size: 1, burst: 0, refillMs: 1000 };
    const { ask, backend, device } = createBench({}, { bandwidth: undefined, ops });
    ask(0, 0, [{ address: BUFFERS + 0x1000, length: 512, writable: true }]);
    ask(0, 1, [{ address: BUFFERS + 0x1000, length: 512, writable: true }]);
    const before = backend.started.length;

    device.change({ kind: 'limits', limits: { ops: null } }, () => {});

    expect([before, backend.started.length]).toEqual([1, 2]);
  });

  test('to another file completes what is in flight, and tells the driver its size', () => {
    const other = new HeldBackend();
    const { ask, backend, device, driver } = createBench({}, NO_LIMITS, { openBackend: () => other });
    const settings: [number, number[]][] = [];
    ask(0, 7, [{ address: BUFFERS + 0x1000, length: 512, writable: true }]);

    device.change({ kind: 'disk-file', fd: 9, sectors: 300 }, (at, bytes) => settings.push([at, [...bytes]]));
    ask(0, 250, [{ address: BUFFERS + 0x1000, length: 512, writable: true }]);

    expect(driver.takeUsed()).toMatchObject({ id: 0 });
    expect(backend.started).toHaveLength(0);
    expect(other.started.map(({ offset }) => offset)).toEqual([250 * 512]);
    expect(settings).toEqual([[0, [0x2c, 1, 0, 0, 0, 0, 0, 0]]]);
  });
});
