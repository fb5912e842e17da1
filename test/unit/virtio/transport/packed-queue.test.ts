import { describe, expect, test } from 'bun:test';
import { PackedQueue } from '../../../../src/virtio/transport/packed-queue.ts';
import { Chain, NEXT, QueueError } from '../../../../src/virtio/transport/queue.ts';
import {
  BUFFERS,
  createTestRam,
  DESCRIPTORS,
  DEVICE_AREA,
  DRIVER_AREA,
  packedDriver,
  putWords,
  setupFor,
} from '../test-ram.ts';

const NO_FEATURES = { indirect: false, eventIndex: false };
const ALL_FEATURES = { indirect: true, eventIndex: true };
const SIZE = 8;
const AVAILABLE = 0x80;

function open(features = NO_FEATURES, size = SIZE) {
  const memory = createTestRam(0x4_0000);
  const queue = new PackedQueue(memory.ram, setupFor(size), features);
  return { ...memory, queue, driver: packedDriver(memory, size), chain: new Chain() };
}

describe('a packed queue', () => {
  test('reads and writes the layout of virtio 1.2 §2.8, byte by byte', () => {
    const { bytes, queue, chain } = open();
    // 0x10 bytes at 0x12000 with NEXT, then 0x200 bytes at 0x13000 with WRITE; both available; the id is in the last.
    bytes.set([0x00, 0x20, 0x01, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x81, 0x00], DESCRIPTORS);
    bytes.set([0x00, 0x30, 0x01, 0, 0, 0, 0, 0, 0x00, 2, 0, 0, 7, 1, 0x82, 0x00], DESCRIPTORS + 16);

    const next = queue.next(chain);
    queue.pushUsed(chain.id, 0x201);

    expect(next).toBe(NEXT.chain);
    expect([chain.id, chain.count, chain.firstWritable]).toEqual([0x107, 2, 1]);
    expect([...chain.address.subarray(0, 2)]).toEqual([0x1_2000, 0x1_3000]);
    expect([...chain.length.subarray(0, 2)]).toEqual([0x10, 0x200]);
    // Used: length 0x201, id 0x107, flags AVAIL, USED and WRITE; the second slot stays as it was.
    expect([...bytes.subarray(DESCRIPTORS + 8, DESCRIPTORS + 16)]).toEqual([1, 2, 0, 0, 7, 1, 0x82, 0x80]);
    expect([...bytes.subarray(DESCRIPTORS + 30, DESCRIPTORS + 32)]).toEqual([0x82, 0x00]);
  });

  test('takes nothing that is not its turn', () => {
    const { queue, chain } = open();

    expect(queue.next(chain)).toBe(NEXT.none);
    expect(queue.enableNotifications()).toBe(false);
  });

  test.each([1, 3, 8])('of %d entries goes round and round with chains of changing length', (size) => {
    const { queue, driver, chain } = open(NO_FEATURES, size);
    const rounds = 500;

    let right = 0;
    for (let i = 0; i < rounds; i++) {
      const length = 1 + (i % size);
      const buffers = Array.from({ length }, (_, j) => ({ address: BUFFERS + i + j, length: 1 }));
      const id = driver.add(buffers);
      const found = queue.next(chain) === NEXT.chain && chain.id === id && chain.count === length;
      queue.pushUsed(chain.id, i);
      const used = driver.takeUsed();
      if (found && used?.id === id && used.written === i) right++;
    }

    expect(right).toBe(rounds);
    expect(queue.inFlight).toBe(0);
  });

  test('hands chains back in any order', () => {
    const { queue, driver, chain } = open();
    const ids = [1, 2, 3].map((length) =>
      driver.add(Array.from({ length }, (_, j) => ({ address: BUFFERS + j, length: 1 }))),
    );
    ids.forEach(() => queue.next(chain));

    [2, 0, 1].forEach((i) => queue.pushUsed(ids[i]!, i));

    expect([driver.takeUsed()?.id, driver.takeUsed()?.id, driver.takeUsed()?.id]).toEqual([2, 0, 1]);
  });

  test('shows staged chains all at once, with the one pushed after them', () => {
    const { queue, driver, chain } = open();
    const ids = [0, 1, 2].map((i) => driver.add([{ address: BUFFERS + i, length: 1, writable: true }]));
    ids.forEach(() => queue.next(chain));

    queue.stageUsed(ids[0]!, 10);
    queue.stageUsed(ids[1]!, 11);
    const early = driver.takeUsed();
    queue.pushUsed(ids[2]!, 12);

    expect(early).toBeUndefined();
    expect(ids.map(() => driver.takeUsed())).toEqual([
      { id: ids[0]!, written: 10 },
      { id: ids[1]!, written: 11 },
      { id: ids[2]!, written: 12 },
    ]);
    expect(queue.inFlight).toBe(0);
  });

  test('gives a chain again that was put back, also over the end of the ring', () => {
    const { queue, driver, chain } = open();
    const three = [0, 1, 2].map((i) => ({ address: BUFFERS + i, length: 1 }));
    for (let i = 0; i < 2; i++) {
      driver.add(three);
      queue.next(chain);
      queue.pushUsed(chain.id, 0);
    }
    const id = driver.add(three);
    queue.next(chain);

    queue.undoNext();

    expect(queue.next(chain)).toBe(NEXT.chain);
    expect([chain.id, chain.count]).toEqual([id, 3]);
  });

  test('reads an indirect table from one end to the other', () => {
    const { queue, driver, chain } = open(ALL_FEATURES);
    const buffers = Array.from({ length: 20 }, (_, i) => ({
      address: BUFFERS + 0x1000 + 16 * i,
      length: 16,
      writable: i > 3,
    }));
    driver.add(buffers, BUFFERS);

    expect(queue.next(chain)).toBe(NEXT.chain);
    expect([chain.count, chain.firstWritable, chain.readableBytes]).toEqual([20, 4, 64]);
  });
});

describe('interrupts of a packed queue', () => {
  const serve = ({ queue, driver, chain }: ReturnType<typeof open>) => {
    driver.add([{ address: BUFFERS, length: 1 }]);
    queue.next(chain);
    queue.pushUsed(chain.id, 0);
    return queue.shouldInterrupt();
  };

  test('come, or are held off, as the driver says', () => {
    const bench = open();

    const enabled = serve(bench);
    bench.view.setUint16(DRIVER_AREA + 2, 1, true);
    const disabled = serve(bench);

    expect([enabled, disabled]).toEqual([true, false]);
    expect(bench.queue.shouldInterrupt()).toBe(false);
  });

  test('come when the device passes the descriptor the driver names, in the right round', () => {
    const bench = open(ALL_FEATURES);
    // Descriptor 2 of the first round, then descriptor 1 of the second.
    bench.view.setUint32(DRIVER_AREA, 0x2_8002, true);
    const first = [serve(bench), serve(bench), serve(bench), serve(bench)];
    bench.view.setUint32(DRIVER_AREA, 0x2_0001, true);
    const second = Array.from({ length: 8 }, () => serve(bench));

    expect(first).toEqual([false, false, true, false]);
    expect(second).toEqual([false, false, false, false, false, true, false, false]);
  });
});

describe('available buffer notifications of a packed queue', () => {
  test('are held off, and wanted at a place', () => {
    const { queue, driver, chain, view } = open(ALL_FEATURES);
    driver.add([{ address: BUFFERS, length: 1 }]);
    queue.disableNotifications();
    const held = view.getUint32(DEVICE_AREA, true);
    queue.next(chain);

    const more = queue.enableNotifications();

    expect(held).toBe(0x1_0000);
    expect(view.getUint32(DEVICE_AREA, true)).toBe(0x2_8001);
    expect(more).toBe(false);
  });

  test('are wanted always where places were not agreed on', () => {
    const { queue, view } = open();

    queue.enableNotifications();

    expect(view.getUint16(DEVICE_AREA + 2, true)).toBe(0);
  });

  test('that came too early are not missed', () => {
    const { queue, driver } = open(ALL_FEATURES);
    driver.add([{ address: BUFFERS, length: 1 }]);

    expect(queue.enableNotifications()).toBe(true);
  });
});

describe('a driver that breaks the rules of a packed queue', () => {
  const RAM_END = 0x4_0000;
  const put = (view: DataView, slot: number, address: number, length: number, flags: number, id = 0) =>
    putWords(view, DESCRIPTORS + 16 * slot, address, length, id, flags | AVAILABLE);
  const broken: [string, (view: DataView) => void][] = [
    ['a buffer behind RAM', (view) => put(view, 0, RAM_END, 1, 0)],
    ['a buffer at the end of 64 bits', (view) => put(view, 0, 2 ** 64 - 2048, 4096, 0)],
    [
      'a table in a table',
      (view) => (put(view, 0, BUFFERS, 16, 4), putWords(view, BUFFERS, BUFFERS, 16, 0, 4)),
    ],
    ['an empty table', (view) => put(view, 0, BUFFERS, 0, 4)],
    ['a table that has a next', (view) => put(view, 0, BUFFERS, 16, 5)],
    ['a table too long', (view) => put(view, 0, 0, 16 * 1025, 4)],
    [
      'a chain without an end',
      (view) => [...Array(SIZE).keys()].forEach((slot) => put(view, slot, BUFFERS, 1, 1)),
    ],
  ];
  test.each(broken)('is refused: %s', (_name, sabotage) => {
    const { queue, chain, view } = open(ALL_FEATURES);
    sabotage(view);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test('is refused: an indirect table that was not agreed on', () => {
    const { queue, driver, chain } = open();
    driver.add([{ address: BUFFERS, length: 1 }], BUFFERS);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test('is refused: an id that the device has already', () => {
    const { queue, chain, view } = open();
    put(view, 0, BUFFERS, 1, 0, 3);
    put(view, 1, BUFFERS, 1, 0, 3);
    queue.next(chain);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test('is refused: slots made available again that the device has', () => {
    const { queue, chain, view } = open();
    for (let slot = 0; slot < SIZE; slot++) put(view, slot, BUFFERS, 1, 0, slot);
    for (let slot = 0; slot < SIZE; slot++) queue.next(chain);
    putWords(view, DESCRIPTORS, BUFFERS, 1, 100, 0x8000);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test.each([
    ['no entries', { size: 0 }],
    ['a misaligned ring', { descriptors: DESCRIPTORS + 8 }],
    ['a misaligned event structure', { driver: DRIVER_AREA + 2 }],
    ['a ring outside RAM', { descriptors: RAM_END }],
  ])('gets no queue with %s', (_name, change) => {
    const { ram } = createTestRam(RAM_END);

    expect(() => new PackedQueue(ram, { ...setupFor(SIZE), ...change }, NO_FEATURES)).toThrow(QueueError);
  });
});
