import { expect, test } from 'bun:test';
import type { DeviceContext } from '../../../../src/virtio/transport/device.ts';
import type { RateLimits } from '../../../../src/virtio/transport/rate-limiter.ts';
import { EntropyDevice } from '../../../../src/virtio/entropy/device.ts';
import { SplitQueue } from '../../../../src/virtio/transport/split-queue.ts';
import { BUFFERS, createTestRam, HOST_BASE, setupFor, splitDriver } from '../test-ram.ts';

const SIZE = 8;

function createBench(limits: RateLimits = { bandwidth: undefined, ops: undefined }) {
  const memory = createTestRam(0x4_0000);
  const queue = new SplitQueue(memory.ram, setupFor(SIZE), { indirect: false, eventIndex: false });
  const filled: [number, number][] = [];
  const timers: (() => void)[] = [];
  const clock = { now: 0 };
  const effects = {
    fill: (host: number, bytes: number) => void filled.push([host - HOST_BASE, bytes]),
    now: () => clock.now,
    after: (_delayMs: number, handler: () => void) => {
      timers.push(handler);
      return () => {};
    },
  };
  const device = new EntropyDevice(effects, limits);
  const failures: string[] = [];
  const context: DeviceContext = {
    ram: memory.ram,
    queues: [queue],
    hasFeature: () => true,
    interrupt: () => {},
    fail: (reason) => failures.push(reason),
    setConfig: () => {},
    config: () => 0,
    queueSetup: () => undefined,
    reclaimQueues: () => false,
    count: () => {},
    countError: () => {},
  };
  device.activate(context);
  return { device, driver: splitDriver(memory, SIZE), filled, failures, timers, clock };
}

test('every buffer of a chain is filled', () => {
  const { device, driver, filled } = createBench();
  driver.add([
    { address: BUFFERS, length: 10, writable: true },
    { address: BUFFERS + 100, length: 20, writable: true },
  ]);

  device.processQueue();

  expect(filled).toEqual([
    [BUFFERS, 10],
    [BUFFERS + 100, 20],
  ]);
  expect(driver.takeUsed()).toEqual({ id: 0, written: 30 });
});

test('a large buffer gets 64 KiB, and the driver is told how much that was', () => {
  const { device, driver, filled } = createBench();
  driver.add([{ address: BUFFERS, length: 0x2_0000, writable: true }]);

  device.processQueue();

  expect(filled).toEqual([[BUFFERS, 0x1_0000]]);
  expect(driver.takeUsed()).toEqual({ id: 0, written: 0x1_0000 });
});

test('a driver that offers entropy is given up on', () => {
  const { device, driver, failures, filled } = createBench();
  driver.add([{ address: BUFFERS, length: 10 }]);

  device.processQueue();

  expect(failures).toEqual(['its queue has a buffer that the device may not write']);
  expect(filled).toEqual([]);
});

test('a limit makes requests wait for a timer, notifications or not', () => {
  const bandwidth = { size: 16, burst: 0, refillMs: 1000 };
  const { device, driver, filled, timers, clock } = createBench({ bandwidth, ops: undefined });
  [0, 1].forEach((i) => driver.add([{ address: BUFFERS + 16 * i, length: 16, writable: true }]));
  device.processQueue();
  device.processQueue();
  const before = filled.length;

  clock.now = 1000;
  timers[0]!();

  expect(before).toBe(1);
  expect(filled.length).toBe(2);
});

test('after a reset nothing is filled any more', () => {
  const { device, driver, filled } = createBench();
  driver.add([{ address: BUFFERS, length: 10, writable: true }]);

  device.reset();
  device.processQueue();

  expect(filled).toEqual([]);
});
