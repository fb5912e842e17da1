/** A device continues elsewhere with its queues where they stood, and its driver does not notice. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type {
  DeviceContext,
  DeviceDescription,
  VirtioDevice,
} from '../../../../src/virtio/transport/device.ts';
import { DEVICE_WORD, QUEUE_WORD, queueWord } from '../../../../src/virtio/transport/device-state.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { Chain, NEXT } from '../../../../src/virtio/transport/queue.ts';
import { seededRandom } from '../../support/random.ts';
import { createDeviceBench } from '../device-bench.ts';

setDefaultTimeout(60_000);

const SIZE = 8;
const DESCRIPTION: DeviceDescription = {
  type: 4,
  features: [],
  queueSizes: [SIZE],
  config: Uint8Array.of(1, 2, 3, 4),
  stateWords: [{ name: 'served', min: 0, max: 1_000_000 }],
};

/** Holds the newest `held` chains and returns the older ones, in order. */
class HoldingDevice implements VirtioDevice {
  served = 0;
  activations: string[] = [];
  #context: DeviceContext | undefined;
  readonly #held: number;
  readonly #ids: number[] = [];
  readonly #chain = new Chain();
  constructor(held: number) {
    this.#held = held;
  }
  activate(context: DeviceContext): void {
    this.activations.push('activate');
    this.#context = context;
  }
  processQueue(): void {
    const queue = this.#context?.queues[0];
    if (!queue) return;
    for (;;) {
      const next = queue.next(this.#chain);
      if (next === NEXT.broken) return this.#context!.fail('a broken ring');
      if (next === NEXT.none) break;
      this.#ids.push(this.#chain.id);
      if (this.#ids.length <= this.#held) continue;
      queue.pushUsed(this.#ids.shift()!, 7);
      this.served++;
    }
    this.#context!.interrupt(0);
    queue.enableNotifications();
  }
  reset(): void {
    this.#context = undefined;
    this.#ids.length = 0;
  }
  save(words: Int32Array): void {
    words[0] = this.served;
  }
  restore(words: Int32Array): void {
    this.activations.push('restore');
    this.served = words[0]!;
  }
}

const HELD = 3;

function createBench(packed: boolean, features: readonly number[] = []) {
  const device = new HoldingDevice(HELD);
  const bench = createDeviceBench(DESCRIPTION, device, features, { packed, ringSize: SIZE });
  const [queue] = bench.start();
  const offer = () => queue!.offer([{ address: bench.buffers, length: 16, writable: true }]);
  return { ...bench, bench, device, queue: queue!, offer };
}

describe.each([
  ['split', false, []],
  ['split, event index', false, [FEATURE.ringEventIdx]],
  ['packed', true, []],
  ['packed, event index', true, [FEATURE.ringEventIdx]],
] as const)('a restored queue (%s)', (_, packed, features) => {
  test('is served in order through many moves and passes over the ring, held chains included', () => {
    const { bench, queue, offer, needsReset } = createBench(packed, features);
    const random = seededRandom(16);
    const offered: number[] = [];
    const returned: number[] = [];

    for (let step = 0; step < 3000; step++) {
      // So many as the ring has room for besides those that the device holds.
      for (let left = random.int(0, SIZE - HELD); left > 0; left--) offered.push(offer());
      for (let used = queue.takeUsed(); used; used = queue.takeUsed()) returned.push(used.id);
      if (step % 3 === 0) bench.move('entropy', new HoldingDevice(HELD));
    }

    expect(needsReset()).toBe(false);
    expect(offered.length).toBeGreaterThan(5000);
    expect(returned).toEqual(offered.slice(0, -HELD));
  });

  test('passes the largest index', () => {
    const { bench, queue, offer } = createBench(packed, features);
    const chains = 0x1_0000 + 10;
    let returned = 0;

    for (let i = 0; i < chains; i++) {
      offer();
      while (queue.takeUsed()) returned++;
      if (i > 0xfff0 && i % 2 === 0) bench.move('entropy', new HoldingDevice(HELD));
    }

    expect(returned).toBe(chains - HELD);
  });
});

describe('a restored device', () => {
  test('has its own words before it processes a queue, and its driver registers', () => {
    const { bench, device, offer, read, queue } = createBench(false);
    for (let i = 0; i < 5; i++) offer();
    while (queue.takeUsed());
    const next = new HoldingDevice(HELD);

    bench.move('entropy', next);

    expect(device.served).toBe(2);
    expect(next.activations).toEqual(['activate', 'restore']);
    expect(next.served).toBe(2);
    expect([read(R.status), read(R.queueReady), read(R.config), read(R.queueNumMax)]).toEqual([
      15,
      1,
      0x0403_0201,
      SIZE,
    ]);
  });

  test('finds chains that its driver made available without a notification', () => {
    const { bench, queue, buffers } = createBench(false);
    for (let i = 0; i < 5; i++) queue.add([{ address: buffers, length: 16, writable: true }]);

    bench.move('entropy', new HoldingDevice(HELD));

    expect([queue.takeUsed(), queue.takeUsed(), queue.takeUsed()]).toMatchObject([
      { id: 0 },
      { id: 1 },
      undefined!,
    ]);
  });

  test('raises the interrupt again that its driver has not acknowledged', () => {
    const { bench, offer, interrupts, read } = createBench(false);
    for (let i = 0; i < 4; i++) offer();
    const before = interrupts();

    bench.move('entropy', new HoldingDevice(HELD));

    expect(read(R.interruptStatus)).toBe(1);
    expect(interrupts()).toBe(before + 1);
  });

  test('raises none after an acknowledged one', () => {
    const { bench, offer, interrupts, write } = createBench(false);
    for (let i = 0; i < 4; i++) offer();
    write(R.interruptAck, 1);
    const before = interrupts();

    bench.move('entropy', new HoldingDevice(HELD));

    expect(interrupts()).toBe(before);
  });

  test('begins anew when its driver resets it, at index 0', () => {
    const { bench, offer } = createBench(false);
    for (let i = 0; i < 5; i++) offer();
    const next = new HoldingDevice(0);
    bench.move('entropy', next);

    const [queue] = bench.start();
    const id = queue!.offer([{ address: bench.buffers, length: 16, writable: true }]);

    expect(next.activations).toEqual(['activate', 'restore', 'activate']);
    expect(queue!.takeUsed()).toEqual({ id, written: 7 });
  });

  test('begins anew when its driver resets it before it has started', () => {
    const { bench, offer } = createBench(false);
    for (let i = 0; i < 5; i++) offer();
    bench.move('entropy', new HoldingDevice(HELD));
    // As if a vCPU had been faster than the worker of the restored device.
    const { words } = bench.state;
    bench.write(R.status, 0);
    words[DEVICE_WORD.restored] = 1;
    words[queueWord(0, QUEUE_WORD.next)] = 5;

    const [queue] = bench.start();
    for (let i = 0; i < 4; i++) queue!.offer([{ address: bench.buffers, length: 16, writable: true }]);

    expect(bench.needsReset()).toBe(false);
    expect(queue!.takeUsed()).toMatchObject({ id: 0 });
  });

  test('that had failed is as it was, and serves its driver after a reset', () => {
    const { bench, view, needsReset } = createBench(false);
    view.setUint16(0x3002, 200, true);
    bench.write(R.queueNotify, 0);
    const next = new HoldingDevice(0);

    bench.move('entropy', next);
    const failed = needsReset();
    const [queue] = bench.start();
    const id = queue!.offer([{ address: bench.buffers, length: 16, writable: true }]);

    expect(failed).toBe(true);
    expect(next.activations).toEqual(['activate']);
    expect(queue!.takeUsed()).toMatchObject({ id });
  });

  test('is saved while its driver sets it up, which goes on', () => {
    const bench = createDeviceBench(DESCRIPTION, new HoldingDevice(0), []);
    const write = (register: number, value: number) => bench.write(register, value);
    write(R.status, 3);
    write(R.driverFeaturesSel, 1);
    write(R.driverFeatures, 1);
    write(R.status, 11);
    write(R.queueNum, SIZE);
    write(R.queueDescLow, 0x1000);

    bench.move('entropy', new HoldingDevice(0));
    write(R.queueDriverLow, 0x3000);
    write(R.queueDeviceLow, 0x4000);
    write(R.queueReady, 1);
    write(R.status, 15);

    expect(bench.state.words[DEVICE_WORD.active]).toBe(1);
    expect(bench.read(R.status)).toBe(15);
  });

  test('that the same process resumes goes on as if nothing had been', () => {
    const { bench, queue, offer } = createBench(true);
    for (let i = 0; i < 5; i++) offer();

    bench.save('entropy');
    queue.add([{ address: bench.buffers, length: 16, writable: true }]);
    bench.runner.resume();

    expect([1, 2, 3, 4].map(() => queue.takeUsed()?.id)).toEqual([0, 1, 2, undefined]);
  });
});

describe('the position in a forged file', () => {
  test.each([0xffff, SIZE])('outside a packed ring (%p) fails the device', (next) => {
    const { bench } = createBench(true);
    const saved = bench.save('entropy');
    const forged = { ...saved, queues: saved.queues.map((queue) => ({ ...queue, next })) };

    bench.restore(forged, new HoldingDevice(0));

    expect(bench.needsReset()).toBe(true);
    expect(bench.failures).toEqual([
      `a packed virtqueue continues at entry ${next} (expected less than its ${SIZE})`,
    ]);
  });

  test('that a split ring does not bear out fails the device', () => {
    const { bench } = createBench(false);
    const saved = bench.save('entropy');
    const forged = { ...saved, queues: saved.queues.map((queue) => ({ ...queue, next: 0x8000 })) };

    bench.restore(forged, new HoldingDevice(0));

    expect(bench.failures).toEqual(['a broken ring']);
  });

  test.each([
    ['a size beyond that of the device', { size: 16 }, 'queue 0 has 16 entries (expected at most 8)'],
    ['a ring outside RAM', { descriptors: [0, 1] }, 'the descriptor table is not in RAM'],
    ['a ring that is not aligned', { driver: [0x3001, 0] }, 'the available ring is not aligned to 2'],
  ] as const)('with %s fails the device', (_, change, failure) => {
    const { bench } = createBench(false);
    const saved = bench.save('entropy');
    const queues = saved.queues.map((queue) => ({ ...queue, ...change })) as typeof saved.queues;

    bench.restore({ ...saved, queues }, new HoldingDevice(0));

    expect(bench.failures).toEqual([failure]);
  });
});
