/** What a back-end of a disk answers, how often it goes and comes, and what it leaves in the rings and the inflight region. */
import { BackEndDevice } from '../../../src/virtio/block/back-end/device.ts';
import { describeBackEnd } from '../../../src/virtio/block/back-end/description.ts';
import { refuseRequests } from '../../../src/virtio/block/back-end/refusal.ts';
import { MMIO_REGISTER as R } from '../../../src/virtio/transport/mmio.regs.ts';
import { headsInFlight, inflightQueueBytes } from '../../../src/virtio/vhost-user/inflight.ts';
import { negotiate, readConfig, VhostUserError } from '../../../src/virtio/vhost-user/session.ts';
import { forEachLoggedRun } from '../../../src/virtio/vhost-user/write-log.ts';
import { createDeviceBench, RING_SPACE } from '../../../test/unit/virtio/device-bench.ts';
import { DEVICE_AREA } from '../../../test/unit/virtio/test-ram.ts';
import { reply } from '../../../test/unit/virtio/vhost-user/scripted-link.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';

const RAM_BYTES = 0x4_0000;
const QUEUE_SIZE = 64;
const CONFIG_BYTES = 60;
/** Queues, acknowledgements, configuration, log and inflight tracking. */
const HELLO = Buffer.concat([
  reply('getFeatures', 0x7400_3246, 0x1),
  reply('getProtocolFeatures', 0x120b, 0),
  reply('getQueueNum', 2, 0),
  reply('setOwner', 0, 0),
  reply('getConfig', 0, CONFIG_BYTES, 0, 2048, ...Array.from({ length: 14 }, () => 0)),
]);
const START = Buffer.concat([
  ...(['setFeatures', 'setInflightFd', 'setMemTable', 'setLogBase'] as const).map((name) =>
    reply(name, 0, 0),
  ),
  ...[0, 1].flatMap(() =>
    (['setVringNum', 'setVringBase', 'setVringAddr', 'setVringCall', 'setVringKick'] as const).map((name) =>
      reply(name, 0, 0),
    ),
  ),
  ...[0, 1].map(() => reply('setVringEnable', 0, 0)),
]);
const STOP = Buffer.concat([reply('getVringBase', 0, 3), reply('getVringBase', 1, 0)]);
const AGAIN = Buffer.concat([HELLO, START]);

export const backEndTarget: FuzzTarget = {
  name: 'back-end',
  what: 'answers, losses and rings of the back-end of a disk',
  seeds: () => [
    Buffer.concat([HELLO, START, STOP, AGAIN, STOP]),
    Buffer.concat([HELLO, START, AGAIN, AGAIN]),
    HELLO,
    Buffer.concat([HELLO, START]).subarray(0, 300),
  ],
  run: (input) => {
    const said = { at: 0 };
    const link = {
      send: () => {},
      receive(target: Uint8Array) {
        if (said.at + target.length > input.length) throw new VhostUserError('hung up');
        target.set(input.subarray(said.at, said.at + target.length));
        said.at += target.length;
      },
    };
    const wishes = { config: true, log: true, inflight: 'offered' } as const;
    let first;
    try {
      const agreement = negotiate(link, wishes);
      if (!agreement.hasConfig) return 'no config';
      first = { agreement, config: readConfig(link, CONFIG_BYTES) };
    } catch (error) {
      if (error instanceof VhostUserError) return kindOf(error.message);
      throw error;
    }
    const { agreement, config } = first;
    const choose = choicesOf(input);
    const clock = { now: 0, timers: new Set<{ at: number; handler: () => void }>() };
    const advance = (ms: number) => {
      clock.now += ms;
      for (const timer of [...clock.timers])
        if (timer.at <= clock.now && clock.timers.delete(timer)) timer.handler();
    };
    const region = Uint8Array.from({ length: 2 * inflightQueueBytes(QUEUE_SIZE) }, () => choose(4));
    const shared = {
      inflight: agreement.tracksInflight
        ? { fd: 1, bytes: region.length, queues: 2, queueSize: QUEUE_SIZE }
        : undefined,
      log: agreement.logs ? { fd: 2, bytes: RAM_BYTES / 4096 / 8 } : undefined,
    };
    let watched = false;
    let connected = true;
    const device = new BackEndDevice(
      {
        ...{ name: 'back-end', wishes, agreement, shared, regions: [], kickFds: [10, 11], callFds: [12, 13] },
        lostMs: 1000,
        capacity: config.slice(0, 8),
      },
      {
        ...link,
        setTimeLimit: () => {},
        connect: () => (connected = choose(3) > 0),
        restart: () => {},
        disconnect: () => (connected = false),
        waitReadable(ms) {
          if (choose(2) === 0) return true;
          clock.now += ms;
          return false;
        },
        after(delayMs, handler) {
          const timer = { at: clock.now + delayMs, handler };
          clock.timers.add(timer);
          return () => clock.timers.delete(timer);
        },
        sleep: (ms) => void (clock.now += ms),
        now: () => clock.now,
        signal: () => {},
        watchNotifications(on) {
          if (on === watched) throw new Error(`notifications are watched: ${on} twice`);
          watched = on;
        },
        refuseRequests,
        takenHeads: (queue, used) =>
          shared.inflight &&
          headsInFlight(region.subarray(queue * inflightQueueBytes(QUEUE_SIZE)), QUEUE_SIZE, used),
        clearInflight: () => {},
        collectWrites: ({ ram }) =>
          forEachLoggedRun(region.subarray(0, 8), (address, bytes) => ram.markWritten(address, bytes)),
        report: (text) => {
          if (text.includes('\n')) throw new Error('a message has two lines');
        },
      },
      true,
    );
    const description = describeBackEnd(agreement, config, { queues: 2, flush: true });
    const bench = createDeviceBench(description, device, [], { ramBytes: RAM_BYTES });
    let queues = bench.start();
    for (let step = 0; step < 20; step++) {
      switch (choose(7)) {
        case 0:
          queues[choose(2)]!.offer([
            { address: 0x2_0000 + choose(0x1_0000), length: choose(100) },
            { address: 0x3_0000, length: choose(100), writable: true },
          ]);
          break;
        case 1:
          device.linkReady(choose(2) === 0, 'hung up');
          break;
        case 2:
          advance(choose(400));
          break;
        case 3: {
          const index = choose(5) === 0 ? choose(0x1_0000) : choose(4);
          bench.view.setUint16(choose(2) * RING_SPACE + DEVICE_AREA + 2, index, true);
          break;
        }
        case 4:
          bench.runner.pause();
          bench.runner.resume();
          break;
        case 5:
          device.processQueue(choose(2));
          break;
        case 6:
          if (choose(3) === 0) queues = bench.start();
      }
    }
    bench.write(R.status, 0);
    if (bench.read(R.status) !== 0) throw new Error('a reset did not take place');
    if (watched) throw new Error('notifications are watched after a reset');
    return `${bench.failures.map(kindOf).join(' ')} ${connected}`;
  },
};
