/** While dirty pages are tracked, each device marks every page that changes when it acts. */
import { describe, expect, test } from 'bun:test';
import { closeSync, openSync } from 'node:fs';
import { copyToHost } from '../../../src/ffi/copy-memory.ts';
import { MAP, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { fillRandom } from '../../../src/ffi/random.ts';
import { createUring, Uring } from '../../../src/ffi/uring.ts';
import { KIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { DirtyPages } from '../../../src/machine/dirty-pages.ts';
import { runsOfBits } from '../../../src/machine/page-runs.ts';
import { BalloonDevice, describeBalloon } from '../../../src/virtio/balloon/device.ts';
import { createBalloonState } from '../../../src/virtio/balloon/state.ts';
import { describeBlock } from '../../../src/virtio/block/description.ts';
import { BlockDevice } from '../../../src/virtio/block/device.ts';
import { FileBackend } from '../../../src/virtio/block/file-backend.ts';
import { encodeOverlayHeader, overlayShape } from '../../../src/virtio/block/overlay-format.ts';
import { OverlayBackend } from '../../../src/virtio/block/overlay-backend.ts';
import { UringBackend } from '../../../src/virtio/block/uring-backend.ts';
import { ConsoleDevice, describeConsole } from '../../../src/virtio/console/device.ts';
import { ENTROPY_DESCRIPTION, EntropyDevice } from '../../../src/virtio/entropy/device.ts';
import { describeNet, NetDevice } from '../../../src/virtio/net/device.ts';
import { NET_FEATURE } from '../../../src/virtio/net/regs.ts';
import { PORT_RESULT } from '../../../src/virtio/net/port.ts';
import type { DeviceDescription, VirtioDevice } from '../../../src/virtio/transport/device.ts';
import { GuestRam } from '../../../src/virtio/transport/guest-ram.ts';
import type { IoVector } from '../../../src/virtio/transport/io-vector.ts';
import { describeVsock, VsockDevice } from '../../../src/virtio/vsock/device.ts';
import { TemporaryFolder } from '../../cli/volt-process.ts';
import { seededRandom } from '../support/random.ts';
import { createDeviceBench, createTestClock, RING_SPACE } from './device-bench.ts';
import { ramAt } from './test-ram.ts';

const RAM_BYTES = 1024 * KIB;
const P = PAGE_BYTES;
const NO_LIMITS = { bandwidth: undefined, ops: undefined };
const SECTORS = 64;

/** Memory that the kernel can write, with tracking on. */
function createTrackedRam() {
  const mapping = new Mapping({
    bytes: RAM_BYTES,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'a test',
  });
  const bytes = new Uint8Array(mapping.view(0, RAM_BYTES));
  const dirty = new DirtyPages(RAM_BYTES);
  dirty.start();
  /** Pages that change while `act` runs, and those that are marked. */
  const watch = (act: () => void) => {
    dirty.take();
    const before = bytes.slice();
    act();
    const marked = new Set(
      runsOfBits(dirty.take(), RAM_BYTES / P).flatMap(([offset, length]) =>
        Array.from({ length: length / P }, (_, i) => offset / P + i),
      ),
    );
    const changed = Array.from({ length: RAM_BYTES / P }, (_, page) => page).filter(
      (page) =>
        Buffer.compare(
          before.subarray(page * P, (page + 1) * P),
          bytes.subarray(page * P, (page + 1) * P),
        ) !== 0,
    );
    return { changed, unmarked: changed.filter((page) => !marked.has(page)), marked };
  };
  return { memory: ramAt(bytes, mapping.address, dirty), dirty, watch, mapping };
}

/** Fills a vector's buffers as readv(2) does. */
function fillVector(target: IoVector, bytes: number): number {
  const source = new Uint8Array(bytes).fill(0x5a);
  let done = 0;
  for (let i = 0; i < target.count && done < bytes; i++) {
    const piece = Math.min(target.lengthOf(i), bytes - done);
    copyToHost(target.hostOf(i), source, done, piece);
    done += piece;
  }
  return done;
}

function startBench(
  description: DeviceDescription,
  device: VirtioDevice,
  packed: boolean,
  features: readonly number[] = [],
) {
  const tracked = createTrackedRam();
  const bench = createDeviceBench(description, device, features, { packed, memory: tracked.memory });
  return { ...tracked, bench, queues: bench.start(), at: bench.buffers };
}

describe.each([
  ['split rings', false],
  ['packed rings', true],
])('with %s, every page is marked that', (_, packed) => {
  test('the entropy device fills, its ring included', () => {
    const effects = { fill: fillRandom, ...createTestClock() };
    const { watch, queues, at } = startBench(
      ENTROPY_DESCRIPTION,
      new EntropyDevice(effects, NO_LIMITS),
      packed,
    );
    queues[0]!.add([
      { address: at + P - 10, length: 20, writable: true },
      { address: at + 8 * P, length: 3 * P, writable: true },
    ]);

    const { changed, unmarked } = watch(() => queues[0]!.notify());

    const first = at / P;
    expect(changed.filter((page) => page >= first)).toEqual([0, 1, 8, 9, 10].map((i) => first + i));
    expect(changed.some((page) => page < RING_SPACE / P)).toBe(true);
    expect(unmarked).toEqual([]);
  });

  test('the network receives a packet into', () => {
    let waiting = 1;
    const port = {
      send: () => 0,
      sendBytes: () => {},
      receive: (target: IoVector) => (waiting-- > 0 ? fillVector(target, 1500) : PORT_RESULT.wouldBlock),
    };
    const effects = { ports: [port], setOffloads() {}, setActivePorts() {}, ...createTestClock() };
    const settings = { pairs: 1, hostMtu: 1500, receiveLimits: NO_LIMITS, transmitLimits: NO_LIMITS };
    const device = new NetDevice(effects, settings);
    const options = { mac: undefined, pairs: 1, mtu: undefined, offloads: true };
    const { watch, queues, at } = startBench(describeNet(options), device, packed, [NET_FEATURE.mrgRxbuf]);
    // So many that the longest packet fits.
    for (let i = 0; i < 50; i++) queues[0]!.add([{ address: at + i * P, length: 600, writable: true }]);

    const { changed, unmarked } = watch(() => {
      queues[0]!.notify();
      device.portReadable(0);
    });

    expect(changed).toEqual(expect.arrayContaining([0, 1, 2].map((i) => at / P + i)));
    expect(unmarked).toEqual([]);
  });

  test('a console reads into', () => {
    const effects = {
      read: (_port: number, target: IoVector) => fillVector(target, 5000),
      write: () => 0,
      isOpen: () => true,
      ...createTestClock(),
    };
    const device = new ConsoleDevice([{ name: 'a', console: true }], effects);
    const { watch, queues, at } = startBench(describeConsole(1), device, packed);
    queues[0]!.add([{ address: at + 100, length: 6000, writable: true }]);

    const { changed, unmarked } = watch(() => queues[0]!.notify());

    expect(changed).toEqual(expect.arrayContaining([at / P, at / P + 1]));
    expect(unmarked).toEqual([]);
  });

  test('a socket sends its header and its data to', () => {
    const effects = {
      connect: () => 1,
      read: (_stream: number, target: IoVector) => fillVector(target, 3000),
      write: () => 0,
      writeBytes: () => 0,
      endWriting() {},
      close() {},
      ...createTestClock(),
    };
    const device = new VsockDevice(3, effects);
    const { watch, queues, at } = startBench(describeVsock(3), device, packed);
    for (let i = 0; i < 8; i++)
      queues[0]!.add([{ address: at + i * 2 * P + 4000, length: P, writable: true }]);

    const { changed, unmarked } = watch(() => {
      device.connectGuest(1, 1000);
      queues[0]!.notify();
    });

    expect(changed.some((page) => page >= at / P)).toBe(true);
    expect(unmarked).toEqual([]);
  });

  test('the balloon gives back', () => {
    const effects = {
      release: (host: number, bytes: number) => copyToHost(host, new Uint8Array(bytes), 0, bytes),
      ...createTestClock(),
    };
    const device = new BalloonDevice(createBalloonState(0), effects, 0);
    const description = describeBalloon({ pages: 0, deflateOnOom: false, statsSeconds: 0 });
    const { watch, queues, at, bench } = startBench(description, device, packed);
    bench.bytes.fill(9, at);
    bench.view.setUint32(at, at / P + 3, true);
    queues[0]!.add([{ address: at, length: 4 }]);

    const { changed, unmarked } = watch(() => queues[0]!.notify());

    expect(changed).toContain(at / P + 3);
    expect(unmarked).toEqual([]);
  });

  test.each(['preadv', 'io_uring', 'preadv from an overlay'])('a disk reads into by %s', async (backend) => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', seededRandom(3).bytes(SECTORS * 512));
    const overlay = await folder.write('overlay', new Uint8Array(2 * 1024 * KIB));
    const [fd, overlayFd] = [openSync(path, 'r'), openSync(overlay, 'r+')];
    const shape = overlayShape(SECTORS * 512, 1);
    encodeOverlayHeader(shape);
    const ring = createUring(16);
    const uring = new UringBackend(fd, new Uring(ring));
    const backends = {
      preadv: () => new FileBackend(fd),
      io_uring: () => uring,
      'preadv from an overlay': () =>
        new OverlayBackend({ baseFd: fd, overlayFd, shape, writeThrough: false }),
    };
    const description = {
      id: 'a',
      sectors: SECTORS,
      readOnly: false,
      queues: 1,
      blockBytes: 512,
      flush: true,
    };
    const used = backends[backend as keyof typeof backends]();
    const device = new BlockDevice(description, used, createTestClock(), NO_LIMITS);
    const { watch, queues, at } = startBench(describeBlock(description), device, packed);
    // The header asks for sector 0.
    queues[0]!.add([
      { address: at, length: 16 },
      { address: at + 2 * P - 512, length: 1024, writable: true },
      { address: at + 9 * P, length: 2 * P, writable: true },
      { address: at + 20 * P, length: 1, writable: true },
    ]);

    const { changed, unmarked, marked } = watch(() => {
      queues[0]!.notify();
      used.drain();
      device.raiseInterrupts();
    });
    for (const each of [fd, overlayFd, ring.fd]) closeSync(each);

    expect(changed.filter((page) => page >= at / P)).toEqual([1, 2, 9, 10].map((i) => at / P + i));
    // The status was 0 before.
    expect(marked.has(at / P + 20)).toBe(true);
    expect(unmarked).toEqual([]);
  });
});

describe('marks', () => {
  test('are not made while tracking is off', () => {
    const { memory, dirty } = createTrackedRam();
    dirty.stop();
    memory.ram.storeU8(5, 1);
    memory.ram.markWritten(0, RAM_BYTES);
    expect(dirty.take().every((word) => word === 0)).toBe(true);
  });

  test('leave out what is not RAM, such as persistent memory', () => {
    const dirty = new DirtyPages(4 * P);
    const bytes = new Uint8Array(16 * P);
    const open = (offset: number, length: number) => bytes.subarray(offset, offset + length);
    const ram = new GuestRam(
      [
        { address: 0, bytes: 2 * P, host: 0x10_0000, open },
        { address: 64 * P, bytes: 2 * P, host: 0x20_0000, open },
        { address: 128 * P, bytes: 8 * P, host: 0x30_0000, open },
      ],
      dirty,
    );
    dirty.start();

    ram.copyIn(64 * P + 10, new Uint8Array(100), 0, 100);
    ram.copyIn(128 * P, new Uint8Array(100), 0, 100);
    ram.markHostWritten(0x10_0000 + P, 1);

    expect(runsOfBits(dirty.take(), 4)).toEqual([[P, 2 * P]]);
  });

  test('are seen by the thread that collects, whichever thread makes them', async () => {
    const dirty = new DirtyPages(64 * P);
    dirty.start();
    const other = new DirtyPages(64 * P, dirty.buffer);

    other.mark(31 * P, 2 * P);

    expect(runsOfBits(dirty.take(), 64)).toEqual([[31 * P, 2 * P]]);
    expect(runsOfBits(dirty.take(), 64)).toEqual([]);
  });
});
