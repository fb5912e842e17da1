/** Devices of a snapshot that is forged: none is accepted that harms more than its own guest. */
import * as v from 'valibot';
import { BalloonDevice, describeBalloon } from '../../../src/virtio/balloon/device.ts';
import { createBalloonState } from '../../../src/virtio/balloon/state.ts';
import { describeBlock } from '../../../src/virtio/block/description.ts';
import { BlockDevice, type BlockBackend } from '../../../src/virtio/block/device.ts';
import type { BlockRequest } from '../../../src/virtio/block/request.ts';
import { ConsoleDevice, describeConsole, PORT_IO } from '../../../src/virtio/console/device.ts';
import { ENTROPY_DESCRIPTION, EntropyDevice } from '../../../src/virtio/entropy/device.ts';
import { SavedDeviceSchema, type SavedDevice } from '../../../src/virtio/host/saved-device.ts';
import type { DeviceKind } from '../../../src/virtio/host/specs.ts';
import { describeNet, NetDevice } from '../../../src/virtio/net/device.ts';
import { PORT_RESULT } from '../../../src/virtio/net/port.ts';
import type { DeviceDescription, VirtioDevice } from '../../../src/virtio/transport/device.ts';
import { describeVsock, VsockDevice } from '../../../src/virtio/vsock/device.ts';
import { STREAM_RESULT } from '../../../src/virtio/vsock/effects.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { createDeviceBench, createTestClock, RING_SPACE } from '../../../test/unit/virtio/device-bench.ts';
import { createTestRam, DESCRIPTORS, DRIVER_AREA } from '../../../test/unit/virtio/test-ram.ts';
import { guestAddressOf } from '../random-driver.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';
import { keysOf, parsedJson, treeVariation, type Json } from '../vary-tree.ts';

const RAM_BYTES = 0x10_0000;
const NO_LIMITS = { bandwidth: undefined, ops: undefined };
const PORTS = [
  { name: 'first', console: true },
  { name: 'second', console: false },
];
/** Made once: a new one for each input would take longer than the input. */
const memory = createTestRam(RAM_BYTES);

/** Completes each request at once. */
class InstantBackend implements BlockBackend {
  #finish: (request: BlockRequest, errno: number) => void = () => {};
  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }
  start(request: BlockRequest): void {
    for (let i = 0; i < request.iovecCount; i++)
      guestAddressOf(request.iovecAddress(i), request.iovecLength(i));
    this.#finish(request, 0);
  }
  commit(): void {}
  drain(): void {}
  flush(): number {
    return 0;
  }
}

type Clock = ReturnType<typeof createTestClock>;

/** A device of each kind, whose host has nothing to say. */
const DEVICES: Partial<
  Record<DeviceKind, { describe: () => DeviceDescription; create: (clock: Clock) => VirtioDevice }>
> = {
  block: {
    describe: () => describeBlock(shape),
    create: (clock) => new BlockDevice(shape, new InstantBackend(), clock, NO_LIMITS),
  },
  net: {
    describe: () =>
      describeNet({ mac: Uint8Array.of(6, 0, 0, 0, 0, 1), pairs: 2, mtu: 1400, offloads: true }),
    create: (clock) => {
      const port = {
        send: (packet: { bytes: number }) => packet.bytes,
        sendBytes: () => {},
        receive: () => PORT_RESULT.wouldBlock,
      };
      const effects = { ports: [port, port], setOffloads: () => {}, setActivePorts, ...clock };
      return new NetDevice(effects, {
        ...{ pairs: 2, hostMtu: 1500, receiveLimits: NO_LIMITS, transmitLimits: NO_LIMITS },
      });
    },
  },
  vsock: {
    describe: () => describeVsock(3),
    create: ({ after }) =>
      new VsockDevice(3, {
        connect: () => -1,
        read: () => STREAM_RESULT.wouldBlock,
        write: () => STREAM_RESULT.wouldBlock,
        writeBytes: () => STREAM_RESULT.wouldBlock,
        endWriting: () => {},
        close: () => {},
        after,
      }),
  },
  console: {
    describe: () => describeConsole(PORTS.length),
    create: ({ after }) =>
      new ConsoleDevice(PORTS, {
        read: () => PORT_IO.wouldBlock,
        write: (_port, source) => {
          if (source.bytes === 0) throw new Error('writes nothing');
          return source.bytes;
        },
        isOpen: (port) => port === 1,
        after,
      }),
  },
  balloon: {
    describe: () => describeBalloon({ pages: 0, deflateOnOom: true, statsSeconds: 1 }),
    create: ({ after }) => {
      const release = (host: number, bytes: number) => void guestAddressOf(host, bytes);
      return new BalloonDevice(createBalloonState(0), { release, after }, 1);
    },
  },
  entropy: {
    describe: () => ENTROPY_DESCRIPTION,
    create: (clock) =>
      new EntropyDevice({ fill: (host, bytes) => void guestAddressOf(host, bytes), ...clock }, NO_LIMITS),
  },
};

const shape = { id: 'disk', sectors: 64, readOnly: false, queues: 2, blockBytes: 512, flush: true };

function setActivePorts(count: number): void {
  if (!(count === 1 || count === 2)) throw new Error(`${count} active ports`);
}

/** Each kind as it is saved, with a driver of either kind of ring and without one. */
function savedDevices(): SavedDevice[] {
  return Object.entries(DEVICES).flatMap(([kind, { describe, create }]) =>
    [false, true, undefined].map((packed) => {
      const description = describe();
      const bench = createDeviceBench(description, create(createTestClock()), description.features, {
        packed: packed ?? false,
        memory,
      });
      if (packed !== undefined) bench.start();
      return bench.save(kind as DeviceKind);
    }),
  );
}

const trees = savedDevices() as unknown as Json[];
const values: Json[] = [
  ...[0, 1, 2, 3, 7, 15, 16, 0x3f, 0x40, 0xff, 0x7fff, 0x8000, 0xffff, 0x1_0000],
  ...[RAM_BYTES - 16, RAM_BYTES, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, -1, 0.5, 1e308],
  ...[null, true, '', 'net', 'disk', '\n', Buffer.alloc(256, 0xff).toString('base64'), [], {}],
];

export const savedDeviceTarget: FuzzTarget = {
  name: 'saved-device',
  what: 'virtio devices of a forged snapshot: registers, positions of queues, words, over rings of rubbish',
  seeds: () => trees.map((tree) => Buffer.from(JSON.stringify(tree))),
  vary: treeVariation(trees, [...new Set(trees.flatMap(keysOf))], values),
  run: (input) => {
    const result = v.safeParse(SavedDeviceSchema, parsedJson(input));
    if (!result.success) {
      const [{ message }] = result.issues;
      if (message.includes('\n')) throw new Error(`a message of several lines: ${message}`);
      return `refused ${v.getDotPath(result.issues[0])?.replace(/\d+/g, '#')} ${kindOf(message)}`;
    }
    const saved = result.output;
    const kind = saved.kind as DeviceKind;
    const device = Object.hasOwn(DEVICES, kind) ? DEVICES[kind] : undefined;
    if (!device) return 'unknown kind';
    return restoreAndRun(saved, device, choicesOf(input.subarray(0, 4)));
  },
};

function restoreAndRun(
  saved: SavedDevice,
  { describe, create }: NonNullable<(typeof DEVICES)[DeviceKind]>,
  choose: (limit: number) => number,
): string {
  const kind = saved.kind as DeviceKind;
  const clock = createTestClock();
  const description = describe();
  memory.bytes.fill(0);
  const bench = createDeviceBench(description, create(clock), [], { memory });
  description.queueSizes.forEach((_, queue) => fillRings(queue * RING_SPACE, choose));
  try {
    bench.restore(saved, create(clock));
  } catch (error) {
    if (!(error instanceof VoltError)) throw error;
    if (error.message.includes('\n'))
      throw new Error(`a message of several lines: ${error.message}`, { cause: error });
    return kindOf(error.message);
  }
  description.queueSizes.forEach((_, queue) => bench.runner.handleNotification(queue));
  clock.advance(1500);
  const failed = bench.needsReset();
  // What was accepted once can be saved and restored again.
  bench.move(kind, create(clock));
  // And it is a device like any other once its driver resets it.
  bench.start();
  if (bench.needsReset()) throw new Error(`fails after a reset: ${bench.failures.at(-1)}`);
  bench.runner.stop();
  if (clock.pending() > 0) throw new Error(`${clock.pending()} timers are left`);
  const reasons = new Set(bench.failures.map((reason) => reason.replace(/\d+/g, '#')));
  return `${kind} ${failed} ${[...reasons].sort().join('; ')}`;
}

/** Descriptors and available entries that may be followed. */
function fillRings(base: number, choose: (limit: number) => number): void {
  const { view } = memory;
  for (let i = 0; i < 16; i++) {
    const at = base + DESCRIPTORS + 16 * i;
    view.setUint32(at, RAM_BYTES / 2 + choose(RAM_BYTES / 2 + 64), true);
    view.setUint32(at + 8, choose(200), true);
    view.setUint32(at + 12, choose(4) | (choose(16) << 16) | (choose(2) << 23), true);
    view.setUint16(base + DRIVER_AREA + 4 + 2 * i, choose(17), true);
  }
  view.setUint16(base + DRIVER_AREA + 2, choose(20), true);
}
