/** The transport with its runner behind it, as a driver on one thread sees them together. */
import { describe, expect, test } from 'bun:test';
import type { DeviceContext, VirtioDevice } from '../../../../src/virtio/transport/device.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  QUEUE_COUNTER,
} from '../../../../src/virtio/transport/device-state.ts';
import { readMmio, writeMmio, type MmioDevice } from '../../../../src/virtio/transport/mmio.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { Chain, NEXT } from '../../../../src/virtio/transport/queue.ts';
import { DeviceRunner } from '../../../../src/virtio/transport/runner.ts';
import { BUFFERS, createTestRam, DESCRIPTORS, DEVICE_AREA, DRIVER_AREA, splitDriver } from '../test-ram.ts';

const OFFERED = 5;
const SIZE = 8;
const ACKNOWLEDGED = 3;
const FEATURES_OK = 8;
const DRIVER_OK = 4;
const NEEDS_RESET = 0x40;

/** A device that hands every chain back with what it was given, and keeps a diary. */
class EchoDevice implements VirtioDevice {
  readonly diary: string[] = [];
  readonly #chain = new Chain();
  context: DeviceContext | undefined;

  activate(context: DeviceContext): void {
    this.context = context;
    this.diary.push('activate');
  }

  processQueue(index: number): void {
    const { context } = this;
    const queue = context?.queues[index];
    if (!context || !queue) return;
    for (;;) {
      const next = queue.next(this.#chain);
      if (next === NEXT.broken) return context.fail('a broken ring');
      if (next === NEXT.none) break;
      this.diary.push(`chain ${this.#chain.id}`);
      queue.pushUsed(this.#chain.id, this.#chain.readableBytes);
      context.count(index, this.#chain.readableBytes, 0);
    }
    context.interrupt(index);
  }

  reset(): void {
    this.diary.push('reset');
    this.context = undefined;
  }

  configWritten(): void {
    this.diary.push('config written');
  }
}

function createBench() {
  const memory = createTestRam(0x4_0000);
  const state = createDeviceState({
    type: 99,
    features: [OFFERED, 40],
    queueSizes: [SIZE, 2 * SIZE],
    config: Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9]),
    writableConfig: { offset: 4, bytes: 2 },
  });
  const device = new EchoDevice();
  const edges: number[] = [];
  const runner = new DeviceRunner(device, state, memory.ram, {
    interrupt: () => edges.push(readMmio(mmio, R.interruptStatus, 4)),
    now: () => 0,
  });
  const sync = () => {
    Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
    runner.sync();
  };
  const mmio: MmioDevice = {
    state,
    effects: { requestSync: sync, sync, notify: (queue) => runner.handleNotification(queue) },
  };
  const read = (register: number, size = 4) => readMmio(mmio, register, size);
  const write = (register: number, value: number, size = 4) => writeMmio(mmio, register, size, value);
  const negotiate = (low: number, high: number) => {
    write(R.status, ACKNOWLEDGED);
    [low, high].forEach((word, select) => {
      write(R.driverFeaturesSel, select);
      write(R.driverFeatures, word);
    });
    write(R.status, ACKNOWLEDGED | FEATURES_OK);
  };
  const setUpQueue = (queue: number, size = SIZE, descriptors = DESCRIPTORS) => {
    write(R.queueSel, queue);
    write(R.queueNum, size);
    write(R.queueDescLow, descriptors);
    write(R.queueDriverLow, DRIVER_AREA);
    write(R.queueDeviceLow, DEVICE_AREA);
    write(R.queueReady, 1);
  };
  const start = () => {
    negotiate(1 << OFFERED, 1);
    setUpQueue(0);
    write(R.status, ACKNOWLEDGED | FEATURES_OK | DRIVER_OK);
  };
  return { ...memory, state, device, runner, edges, read, write, negotiate, setUpQueue, start };
}

describe('registers of virtio over MMIO', () => {
  test('say who the device is', () => {
    const { read } = createBench();

    expect([R.magicValue, R.version, R.deviceId].map((register) => read(register))).toEqual([
      0x7472_6976, 2, 99,
    ]);
    expect(read(R.shmLenLow)).toBe(0xffff_ffff);
    expect(read(R.status)).toBe(0);
  });

  test('offer features in two halves and nothing beyond', () => {
    const { read, write } = createBench();
    const halves = [0, 1, 2, 0xffff_ffff].map((select) => {
      write(R.deviceFeaturesSel, select);
      return read(R.deviceFeatures);
    });

    // 5, INDIRECT_DESC, EVENT_IDX; VERSION_1, PACKED, 40.
    expect(halves).toEqual([(1 << 5) | (1 << 28) | (1 << 29), 1 | (1 << 2) | (1 << 8), 0, 0]);
  });

  test('answer to aligned 32-bit accesses alone', () => {
    const { read, write } = createBench();
    write(R.status, ACKNOWLEDGED, 1);

    expect(read(R.status)).toBe(0);
    expect(read(R.magicValue, 2)).toBe(0);
    expect(read(R.magicValue + 1)).toBe(0);
  });

  test('know the largest size of each queue, and of no other', () => {
    const { read, write } = createBench();
    const sizes = [0, 1, 2, 0xffff_ffff].map((queue) => {
      write(R.queueSel, queue);
      write(R.queueNum, 4);
      return read(R.queueNumMax);
    });

    expect(sizes).toEqual([SIZE, 2 * SIZE, 0, 0]);
  });
});

describe('feature negotiation', () => {
  test.each([
    ['what was offered', 1 << OFFERED, 1, FEATURES_OK],
    ['without VERSION_1', 1 << OFFERED, 0, 0],
    ['what was not offered', 1 << 6, 1, 0],
    ['what was not offered, in the other half', 0, 1 | (1 << 9), 0],
  ])('with %s', (_name, low, high, expected) => {
    const { read, negotiate } = createBench();

    negotiate(low, high);

    expect(read(R.status)).toBe(ACKNOWLEDGED | expected);
  });

  test('is over with FEATURES_OK', () => {
    const { runner, negotiate, write } = createBench();
    negotiate(1 << OFFERED, 1);

    write(R.driverFeaturesSel, 0);
    write(R.driverFeatures, 0);

    expect(runner.hasFeature(OFFERED)).toBe(true);
    expect(runner.hasFeature(40)).toBe(false);
  });

  test('cannot be left out', () => {
    const { read, write, device } = createBench();

    write(R.status, ACKNOWLEDGED | DRIVER_OK);

    expect(read(R.status)).toBe(ACKNOWLEDGED);
    expect(device.diary).toEqual([]);
  });
});

describe('a running device', () => {
  test('serves chains and interrupts', () => {
    const bench = createBench();
    bench.start();
    const driver = splitDriver(bench, SIZE);
    const id = driver.add([{ address: BUFFERS, length: 7 }]);

    bench.write(R.queueNotify, 0);

    expect(driver.takeUsed()).toEqual({ id, written: 7 });
    expect(bench.edges).toEqual([1]);
    bench.write(R.interruptAck, 1);
    expect(bench.read(R.interruptStatus)).toBe(0);
    const counters = QUEUE_COUNTER;
    expect(bench.state.counters[counters.chains]).toBe(1);
    expect(bench.state.counters[counters.bytesOut]).toBe(7);
    expect(bench.state.counters[counters.interrupts]).toBe(1);
  });

  test('finds chains that were there before it was ready', () => {
    const bench = createBench();
    splitDriver(bench, SIZE).add([{ address: BUFFERS, length: 1 }]);

    bench.start();

    expect(bench.device.diary).toEqual(['activate', 'chain 0']);
  });

  test('has no status bit taken back', () => {
    const bench = createBench();
    bench.start();

    bench.write(R.status, ACKNOWLEDGED);

    expect(bench.read(R.status)).toBe(ACKNOWLEDGED | FEATURES_OK | DRIVER_OK);
  });

  test('has no queue moved under it', () => {
    const bench = createBench();
    bench.start();

    bench.write(R.queueDescLow, 0x8000);
    bench.write(R.queueNum, 2);

    splitDriver(bench, SIZE).add([{ address: BUFFERS, length: 1 }]);
    bench.write(R.queueNotify, 0);
    expect(bench.device.diary).toEqual(['activate', 'chain 0']);
  });

  test('lets go of everything at reset, and starts over', () => {
    const bench = createBench();
    bench.start();
    splitDriver(bench, SIZE).add([{ address: BUFFERS, length: 1 }]);

    bench.write(R.status, 0);
    bench.write(R.queueNotify, 0);
    const afterReset = [bench.read(R.status), bench.read(R.interruptStatus), bench.read(R.queueReady)];
    bench.start();

    expect(afterReset).toEqual([0, 0, 0]);
    expect(bench.device.diary).toEqual(['activate', 'reset', 'activate', 'chain 0']);
  });

  test('ignores notifications of queues that do not exist', () => {
    const bench = createBench();
    bench.start();

    [1, 2, 0xffff_ffff].forEach((queue) => bench.write(R.queueNotify, queue));

    expect(bench.device.diary).toEqual(['activate']);
  });
});

describe('a driver that breaks the rules', () => {
  test('of the ring gets NEEDS_RESET with a config interrupt, and nothing more', () => {
    const bench = createBench();
    bench.start();
    bench.view.setUint16(DRIVER_AREA + 2, SIZE + 1, true);

    bench.write(R.queueNotify, 0);
    bench.view.setUint16(DRIVER_AREA + 2, 1, true);
    bench.write(R.queueNotify, 0);

    expect(bench.read(R.status)).toBe(ACKNOWLEDGED | FEATURES_OK | DRIVER_OK | NEEDS_RESET);
    expect(bench.edges).toEqual([2]);
    expect(bench.device.diary).toEqual(['activate', 'reset']);
  });

  test.each([
    ['outside RAM', SIZE, 0x10_0000],
    ['larger than the device has it', 2 * SIZE, DESCRIPTORS],
  ])('with a queue %s gets NEEDS_RESET', (_name, size, descriptors) => {
    const bench = createBench();
    bench.negotiate(0, 1);
    bench.setUpQueue(0, size, descriptors);

    bench.write(R.status, ACKNOWLEDGED | FEATURES_OK | DRIVER_OK);

    expect(bench.read(R.status) & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(bench.device.diary).toEqual([]);
  });

  test('by taking a queue away gets NEEDS_RESET', () => {
    const bench = createBench();
    bench.start();
    bench.write(R.queueSel, 0);

    bench.write(R.queueReady, 0);

    expect(bench.read(R.status) & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(bench.device.diary).toEqual(['activate', 'reset']);
  });

  test('may start over after a reset', () => {
    const bench = createBench();
    bench.start();
    bench.view.setUint16(DRIVER_AREA + 2, SIZE + 1, true);
    bench.write(R.queueNotify, 0);

    bench.write(R.status, 0);
    bench.view.setUint16(DRIVER_AREA + 2, 1, true);
    bench.start();

    expect(bench.read(R.status) & NEEDS_RESET).toBe(0);
    expect(bench.device.diary).toEqual(['activate', 'reset', 'activate', 'chain 0']);
  });
});

describe('configuration space', () => {
  test('is read in any width, and ends where the device says', () => {
    const { read } = createBench();

    expect([read(R.config + 1, 1), read(R.config + 2, 2), read(R.config + 3, 4)]).toEqual([
      2, 0x0403, 0x0706_0504,
    ]);
    expect(read(R.config + 7, 4)).toBe(0x0908);
    expect(read(R.config + 0xe00, 4)).toBe(0);
  });

  test('takes writes where the driver may write, and tells the device', () => {
    const { read, write, start, device } = createBench();
    start();

    write(R.config + 4, 0xbeef, 2);
    write(R.config + 3, 0xffff, 2);
    write(R.config + 0, 0xff, 1);

    expect(read(R.config, 4)).toBe(0x0403_0201);
    expect(read(R.config + 4, 4)).toBe(0x0807_beef);
    expect(device.diary).toEqual(['activate', 'config written']);
  });

  test('changes with its generation, and tells the driver', () => {
    const { read, start, device, edges } = createBench();
    start();
    const before = read(R.configGeneration);

    device.context?.setConfig(0, Uint8Array.from([0x11, 0x22]));

    expect(read(R.configGeneration)).not.toBe(before);
    expect(read(R.config, 4)).toBe(0x0403_2211);
    expect(edges).toEqual([2]);
    device.context?.setConfig(2, Uint8Array.from([0x33]));
    expect(read(R.config, 4)).toBe(0x0433_2211);
  });
});
