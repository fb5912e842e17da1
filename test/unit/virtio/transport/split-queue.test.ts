import { describe, expect, test } from 'bun:test';
import { Chain, MAX_CHAIN, NEXT, QueueError } from '../../../../src/virtio/transport/queue.ts';
import { SplitQueue } from '../../../../src/virtio/transport/split-queue.ts';
import {
  BUFFERS,
  createTestRam,
  DESCRIPTORS,
  DEVICE_AREA,
  DRIVER_AREA,
  HOST_BASE,
  putWords,
  setupFor,
  splitDriver,
} from '../test-ram.ts';

const NO_FEATURES = { indirect: false, eventIndex: false };
const ALL_FEATURES = { indirect: true, eventIndex: true };
const SIZE = 8;

function open(features = NO_FEATURES, size = SIZE) {
  const memory = createTestRam(0x4_0000);
  const queue = new SplitQueue(memory.ram, setupFor(size), features);
  return { ...memory, queue, driver: splitDriver(memory, size), chain: new Chain() };
}

describe('a split queue', () => {
  test('reads the layout of virtio 1.2 §2.7, byte by byte', () => {
    const { bytes, queue, chain } = open();
    // Descriptor 5: 0x10 bytes at 0x12000, next is 2. Descriptor 2: 0x200 bytes at 0x13000 for the device to write.
    bytes.set([0x00, 0x20, 0x01, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x01, 0, 2, 0], DESCRIPTORS + 5 * 16);
    bytes.set([0x00, 0x30, 0x01, 0, 0, 0, 0, 0, 0x00, 2, 0, 0, 0x02, 0, 0, 0], DESCRIPTORS + 2 * 16);
    // Available ring: flags 0, index 1, ring[0] = 5.
    bytes.set([0, 0, 1, 0, 5, 0], DRIVER_AREA);

    const next = queue.next(chain);
    queue.pushUsed(chain.id, 0x201);

    expect(next).toBe(NEXT.chain);
    expect([chain.id, chain.count, chain.firstWritable]).toEqual([5, 2, 1]);
    expect([...chain.address.subarray(0, 2)]).toEqual([0x1_2000, 0x1_3000]);
    expect([...chain.host.subarray(0, 2)]).toEqual([HOST_BASE + 0x1_2000, HOST_BASE + 0x1_3000]);
    expect([...chain.length.subarray(0, 2)]).toEqual([0x10, 0x200]);
    expect([chain.readableBytes, chain.writableBytes]).toEqual([0x10, 0x200]);
    // Used ring: flags 0, index 1, ring[0] = {id 5, length 0x201}.
    expect([...bytes.subarray(DEVICE_AREA, DEVICE_AREA + 12)]).toEqual([0, 0, 1, 0, 5, 0, 0, 0, 1, 2, 0, 0]);
  });

  test('gives nothing as long as the driver adds nothing', () => {
    const { queue, chain } = open();

    expect(queue.next(chain)).toBe(NEXT.none);
    expect(queue.enableNotifications()).toBe(false);
  });

  test('goes round its ring and round 2^16 without losing its place', () => {
    const { queue, driver, chain } = open();
    const rounds = 0x1_0000 + 3 * SIZE;

    let right = 0;
    for (let i = 0; i < rounds; i++) {
      const id = driver.add([{ address: BUFFERS + i, length: 1 }]);
      const found = queue.next(chain) === NEXT.chain && chain.id === id && chain.address[0] === BUFFERS + i;
      queue.pushUsed(chain.id, i);
      const used = driver.takeUsed();
      if (found && used?.id === id && used.written === i) right++;
    }

    expect(right).toBe(rounds);
    expect(queue.inFlight).toBe(0);
  });

  test('hands chains back in any order', () => {
    const { queue, driver, chain } = open();
    const ids = [0, 1, 2].map((i) => driver.add([{ address: BUFFERS + i, length: 1 }]));
    [0, 1, 2].forEach(() => queue.next(chain));

    queue.pushUsed(ids[2]!, 3);
    queue.pushUsed(ids[0]!, 1);

    expect(driver.takeUsed()).toEqual({ id: ids[2]!, written: 3 });
    expect(driver.takeUsed()).toEqual({ id: ids[0]!, written: 1 });
    expect(driver.takeUsed()).toBeUndefined();
    expect(queue.inFlight).toBe(1);
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

  test('gives a chain again that was put back', () => {
    const { queue, driver, chain } = open();
    driver.add([{ address: BUFFERS, length: 4 }]);
    queue.next(chain);

    queue.undoNext();

    expect(queue.inFlight).toBe(0);
    expect(queue.next(chain)).toBe(NEXT.chain);
    expect(chain.address[0]).toBe(BUFFERS);
  });

  test('follows an indirect table, also one longer than the queue', () => {
    const { queue, driver, chain } = open(ALL_FEATURES);
    const buffers = Array.from({ length: 20 }, (_, i) => ({
      address: BUFFERS + 0x1000 + 16 * i,
      length: 16,
      writable: i > 3,
    }));
    driver.add(buffers, BUFFERS);

    expect(queue.next(chain)).toBe(NEXT.chain);
    expect([chain.count, chain.firstWritable, chain.readableBytes, chain.writableBytes]).toEqual([
      20, 4, 64, 256,
    ]);
    expect(chain.address[19]).toBe(BUFFERS + 0x1000 + 16 * 19);
  });
});

describe('interrupts of a split queue', () => {
  test('without the event index come unless the driver holds them off', () => {
    const { queue, driver, chain, view } = open();
    const serve = () => {
      driver.add([{ address: BUFFERS, length: 1 }]);
      queue.next(chain);
      queue.pushUsed(chain.id, 0);
      return queue.shouldInterrupt();
    };

    const before = serve();
    view.setUint16(DRIVER_AREA, 1, true);
    const held = serve();

    expect(before).toBe(true);
    expect(held).toBe(false);
    expect(queue.shouldInterrupt()).toBe(false);
  });

  test('with the event index come when the used index passes used_event', () => {
    const { queue, driver, chain, view } = open(ALL_FEATURES);
    view.setUint16(DRIVER_AREA + 4 + 2 * SIZE, 2, true);
    const serve = () => {
      driver.add([{ address: BUFFERS, length: 1 }]);
      queue.next(chain);
      queue.pushUsed(chain.id, 0);
      return queue.shouldInterrupt();
    };

    expect([serve(), serve(), serve(), serve()]).toEqual([false, false, true, false]);
  });

  test('are asked for once for a batch', () => {
    const { queue, driver, chain, view } = open(ALL_FEATURES);
    view.setUint16(DRIVER_AREA + 4 + 2 * SIZE, 1, true);
    [0, 1, 2].forEach((i) => driver.add([{ address: BUFFERS + i, length: 1 }]));
    for (let i = 0; i < 3; i++) {
      queue.next(chain);
      queue.pushUsed(chain.id, 0);
    }

    expect(queue.shouldInterrupt()).toBe(true);
    expect(queue.shouldInterrupt()).toBe(false);
  });
});

describe('available buffer notifications of a split queue', () => {
  test('are held off and wanted by the flag without the event index', () => {
    const { queue, view } = open();

    queue.disableNotifications();
    const held = view.getUint16(DEVICE_AREA, true);
    const more = queue.enableNotifications();

    expect(held).toBe(1);
    expect(view.getUint16(DEVICE_AREA, true)).toBe(0);
    expect(more).toBe(false);
  });

  test('are wanted for the next chain by avail_event with it', () => {
    const { queue, driver, chain, view } = open(ALL_FEATURES);
    driver.add([{ address: BUFFERS, length: 1 }]);
    queue.disableNotifications();
    queue.next(chain);

    const more = queue.enableNotifications();

    expect(view.getUint16(DEVICE_AREA + 4 + 8 * SIZE, true)).toBe(1);
    expect(view.getUint16(DEVICE_AREA, true)).toBe(0);
    expect(more).toBe(false);
  });

  test('that came too early for it are not missed', () => {
    const { queue, driver } = open(ALL_FEATURES);
    driver.add([{ address: BUFFERS, length: 1 }]);

    expect(queue.enableNotifications()).toBe(true);
  });
});

describe('a driver that breaks the rules of a split queue', () => {
  const RAM_END = 0x4_0000;
  const broken: [string, (view: DataView) => void][] = [
    ['a head outside the table', (view) => view.setUint16(DRIVER_AREA + 4, SIZE, true)],
    ['more chains than the ring has', (view) => view.setUint16(DRIVER_AREA + 2, SIZE + 1, true)],
    ['a chain that loops', (view) => putWords(view, DESCRIPTORS, BUFFERS, 1, 1, 0)],
    ['a next outside the table', (view) => putWords(view, DESCRIPTORS, BUFFERS, 1, 1, SIZE)],
    ['a buffer behind RAM', (view) => putWords(view, DESCRIPTORS, RAM_END, 1, 0, 0)],
    ['a buffer that leaves RAM', (view) => putWords(view, DESCRIPTORS, RAM_END - 4, 5, 0, 0)],
    ['a buffer at the end of 64 bits', (view) => putWords(view, DESCRIPTORS, 2 ** 64 - 2048, 4096, 0, 0)],
    ['a buffer of 4 GiB', (view) => putWords(view, DESCRIPTORS, BUFFERS, 0xffff_ffff, 0, 0)],
    ['an indirect table that was not agreed on', (view) => putWords(view, DESCRIPTORS, BUFFERS, 16, 4, 0)],
  ];
  test.each(broken)('is refused: %s', (_name, sabotage) => {
    const { queue, chain, view } = open();
    putWords(view, DESCRIPTORS, BUFFERS, 1, 0, 0);
    view.setUint16(DRIVER_AREA + 2, 1, true);
    sabotage(view);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  const brokenIndirect: [string, (view: DataView) => void][] = [
    ['an empty table', (view) => view.setUint32(DESCRIPTORS + 8, 0, true)],
    ['a table with a part of a descriptor', (view) => view.setUint32(DESCRIPTORS + 8, 17, true)],
    ['a table that leaves RAM', (view) => putWords(view, DESCRIPTORS, RAM_END - 16, 32, 4, 0)],
    ['a table that has a next', (view) => putWords(view, DESCRIPTORS, BUFFERS, 32, 5, 0)],
    ['a table in a table', (view) => putWords(view, BUFFERS, BUFFERS, 16, 4, 0)],
    ['a table that loops', (view) => putWords(view, BUFFERS, BUFFERS, 1, 1, 0)],
    ['a next behind the table', (view) => putWords(view, BUFFERS, BUFFERS, 1, 1, 2)],
    ['a table too long', (view) => putWords(view, DESCRIPTORS, 0x1000, 16 * (MAX_CHAIN + 1), 4, 0)],
  ];
  test.each(brokenIndirect)('is refused: %s', (_name, sabotage) => {
    const { queue, chain, view } = open(ALL_FEATURES);
    for (let i = 0; i < MAX_CHAIN + 1; i++) putWords(view, 0x1000 + 16 * i, BUFFERS, 1, 1, i + 1);
    putWords(view, DESCRIPTORS, BUFFERS, 32, 4, 0);
    putWords(view, BUFFERS, BUFFERS, 1, 0, 0);
    view.setUint16(DRIVER_AREA + 4, 0, true);
    view.setUint16(DRIVER_AREA + 2, 1, true);
    sabotage(view);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test('is refused: a readable buffer behind a writable one', () => {
    const { queue, driver, chain } = open();
    driver.add([
      { address: BUFFERS, length: 1, writable: true },
      { address: BUFFERS, length: 1 },
    ]);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test('is refused: a chain that the device has already', () => {
    const { queue, driver, chain, view } = open();
    driver.add([{ address: BUFFERS, length: 1 }]);
    queue.next(chain);
    view.setUint16(DRIVER_AREA + 6, 0, true);
    view.setUint16(DRIVER_AREA + 2, 2, true);

    expect(queue.next(chain)).toBe(NEXT.broken);
  });

  test.each([
    ['no entries', { size: 0 }],
    ['a size that is no power of two', { size: 6 }],
    ['too many entries', { size: 65536 }],
    ['a misaligned table', { descriptors: DESCRIPTORS + 8 }],
    ['a misaligned available ring', { driver: DRIVER_AREA + 1 }],
    ['a misaligned used ring', { device: DEVICE_AREA + 2 }],
    ['a table outside RAM', { descriptors: RAM_END }],
    ['a used ring that leaves RAM', { device: RAM_END - 8 }],
  ])('gets no queue with %s', (_name, change) => {
    const { ram } = createTestRam(RAM_END);

    expect(() => new SplitQueue(ram, { ...setupFor(SIZE), ...change }, NO_FEATURES)).toThrow(QueueError);
  });
});
