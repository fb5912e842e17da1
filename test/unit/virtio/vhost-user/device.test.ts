import { describe, expect, test } from 'bun:test';
import type { VhostAgreement } from '../../../../src/virtio/vhost-user/session.ts';
import { VhostDevice, vhostRingFeatures } from '../../../../src/virtio/vhost-user/device.ts';
import { refuseRequests } from '../../../../src/virtio/share/refusal.ts';
import { ENOTCONN, FUSE_OUT_HEADER } from '../../../../src/virtio/share/regs.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { describeShare } from '../../../../src/virtio/share/description.ts';
import { createDeviceBench, RING_SPACE } from '../device-bench.ts';
import { DESCRIPTORS, DEVICE_AREA, DRIVER_AREA } from '../test-ram.ts';
import { createScriptedLink, reply } from './scripted-link.ts';

const agreement: VhostAgreement = {
  features: [0xf000_0000, 0xff],
  protocolFeatures: true,
  acknowledges: true,
  queues: 2,
  hasConfig: false,
  logs: false,
  tracksInflight: false,
};
const USED_BUFFER = 1;
const CONFIG_CHANGE = 2;
/** Where user addresses of the protocol begin, in words of 32 bits. */
const USER_BASE_HIGH = 2 ** 12;
const REQUEST = 0x1_0000;
const ANSWER = 0x1_0100;

function createBench(answers: Readonly<Record<string, Uint8Array | undefined>> = {}) {
  const link = createScriptedLink(answers);
  let watched = 0;
  const options = {
    name: 'virtiofsd',
    agreement,
    regions: [{ address: 0, bytes: 0x40_0000, fileOffset: 0, fd: 7 }],
    kickFds: [10, 11],
    callFds: [9, 9],
  };
  const device = new VhostDevice(options, {
    send: (message, fds) => link.send(message, fds),
    receive: (target) => link.receive(target),
    setTimeLimit: () => {},
    shutDown: () => (link.severed = true),
    watchNotifications: () => void watched++,
    refuseRequests,
  });
  const bench = createDeviceBench(describeShare('files', agreement), device, [FEATURE.ringEventIdx]);
  return { ...bench, device, link, watched: () => watched };
}

/** Puts a request of FUSE into a queue's ring, without a notification. */
function addRequest(bench: ReturnType<typeof createBench>, queue: ReturnType<typeof bench.start>[number]) {
  bench.view.setUint32(REQUEST, 56, true);
  bench.view.setUint32(REQUEST + 8, 77, true);
  return queue.add([
    { address: REQUEST, length: 56 },
    { address: ANSWER, length: 80, writable: true },
  ]);
}

/** The answer's length, error and number. */
function answerOf({ view }: ReturnType<typeof createBench>) {
  return [0, 4, 8].map((at) => view.getInt32(ANSWER + at, true));
}

test('of the other side only such ring features are offered that go through', () => {
  expect(vhostRingFeatures(agreement)).toEqual([
    FEATURE.ringIndirectDesc,
    FEATURE.ringEventIdx,
    FEATURE.version1,
  ]);
  expect(vhostRingFeatures({ ...agreement, features: [0, 1] })).toEqual([FEATURE.version1]);
});

describe('a device that another process serves', () => {
  test('is handed over when its driver is ready, with the features of the driver', () => {
    const bench = createBench();

    bench.start();

    const { heard } = bench.link;
    expect(heard[0]).toEqual({ name: 'setFeatures', words: [0x6000_0000, 1], fds: [] });
    const places = heard.filter(({ name }) => name === 'setVringAddr').map(({ words }) => words);
    expect(places).toEqual(
      [0, 1].map((index) => [
        ...[index, 0],
        ...[DESCRIPTORS, DEVICE_AREA, DRIVER_AREA].flatMap((at) => [at + index * RING_SPACE, USER_BASE_HIGH]),
        ...[0, 0],
      ]),
    );
    expect(bench.failures).toEqual([]);
  });

  test('has each interrupt be for a used buffer, as nobody here knows better', () => {
    const bench = createBench();
    const before = bench.read(R.interruptStatus);

    bench.start();
    bench.write(R.interruptAck, USED_BUFFER);

    expect([before, bench.read(R.interruptStatus)]).toEqual([0, USED_BUFFER]);
    bench.write(R.status, 0);
    expect(bench.read(R.interruptStatus)).toBe(0);
  });

  test('is taken back at a reset, and handed over anew', () => {
    const bench = createBench();
    bench.start();
    const first = bench.link.heard.length;

    bench.write(R.status, 0);
    const stopped = bench.link.heard.slice(first).map(({ name }) => name);
    bench.start();

    expect(stopped).toEqual(['getVringBase', 'getVringBase']);
    expect(bench.link.heard.filter(({ name }) => name === 'setMemTable')).toHaveLength(2);
    expect(bench.needsReset()).toBe(false);
  });

  test('hands over only rings that lie in RAM', () => {
    const bench = createBench();
    bench.write(R.status, 3);
    bench.write(R.driverFeaturesSel, 1);
    bench.write(R.driverFeatures, 1);
    bench.write(R.status, 11);
    bench.write(R.queueSel, 0);
    bench.write(R.queueNum, 64);
    bench.write(R.queueDescHigh, 1);
    bench.write(R.queueReady, 1);

    bench.write(R.status, 15);

    expect(bench.link.heard).toEqual([]);
    expect(bench.failures).toEqual(['the descriptor table is not in RAM']);
  });
});

describe('when the other process is lost', () => {
  test('the driver hears that a reset is needed, and Volt says why', () => {
    const bench = createBench();
    bench.start();

    bench.device.disconnected('hung up');

    expect(bench.needsReset()).toBe(true);
    expect(bench.read(R.interruptStatus) & CONFIG_CHANGE).toBe(CONFIG_CHANGE);
    expect(bench.failures).toEqual(['virtiofsd hung up']);
    expect([bench.link.severed, bench.watched()]).toEqual([true, 1]);
  });

  test('requests that it had not answered are refused', () => {
    const bench = createBench();
    const [, queue] = bench.start();
    const id = addRequest(bench, queue!);

    bench.device.disconnected('hung up');

    expect(queue!.takeUsed()).toEqual({ id, written: FUSE_OUT_HEADER.size });
    expect(answerOf(bench)).toEqual([FUSE_OUT_HEADER.size, -ENOTCONN, 77]);
  });

  test('requests that it had answered are left alone', () => {
    const bench = createBench();
    const [, queue] = bench.start();
    addRequest(bench, queue!);
    // As the other process would: the first entry of the used ring, and its index.
    bench.view.setUint16(RING_SPACE + DEVICE_AREA + 2, 1, true);
    bench.view.setUint32(ANSWER, 80, true);
    const second = addRequest(bench, queue!);

    bench.device.disconnected('hung up');

    expect(bench.view.getUint16(RING_SPACE + DEVICE_AREA + 2, true)).toBe(2);
    queue!.takeUsed();
    expect(queue!.takeUsed()?.id).toBe(second);
  });

  test('later requests are refused too, and what wants no answer gets none', () => {
    const bench = createBench();
    const [first, queue] = bench.start();
    bench.device.disconnected('hung up');

    addRequest(bench, queue!);
    bench.device.processQueue(1);
    first!.add([{ address: REQUEST, length: 56 }]);
    bench.device.processQueue(0);

    expect(answerOf(bench)).toEqual([FUSE_OUT_HEADER.size, -ENOTCONN, 77]);
    expect(queue!.takeUsed()?.written).toBe(FUSE_OUT_HEADER.size);
    expect(first!.takeUsed()?.written).toBe(0);
  });

  test('a driver that resets finds requests refused, and is told again', () => {
    const bench = createBench();
    bench.start();
    bench.device.disconnected('hung up');

    bench.write(R.status, 0);
    const [, queue] = bench.start();
    addRequest(bench, queue!);
    bench.device.processQueue(1);

    expect(bench.needsReset()).toBe(true);
    expect(answerOf(bench)).toEqual([FUSE_OUT_HEADER.size, -ENOTCONN, 77]);
    expect(bench.failures).toEqual(['virtiofsd hung up', 'virtiofsd hung up']);
  });

  test('and has left an index that makes no sense, the device fails and nothing else', () => {
    const bench = createBench();
    const [, queue] = bench.start();
    addRequest(bench, queue!);
    bench.view.setUint16(RING_SPACE + DEVICE_AREA + 2, 5000, true);

    bench.device.disconnected('hung up');
    bench.device.processQueue(1);

    expect(bench.failures).toEqual(['virtiofsd hung up', 'queue 1 has an invalid ring or descriptor chain']);
    expect(bench.runner.active).toBe(false);
  });

  test.each([
    ['refuses RAM', { setMemTable: reply('setMemTable', 1, 0) }, 'virtiofsd refused the message setMemTable'],
    ['hangs up while it is told', { setVringKick: undefined }, 'virtiofsd hung up'],
    [
      'answers nonsense',
      { setFeatures: reply('getFeatures', 0, 0) },
      'virtiofsd answered 2 with a message 1',
    ],
  ])('since it %s, requests are refused from the start', (_what, answers, message) => {
    const bench = createBench(answers);

    const [, queue] = bench.start();
    addRequest(bench, queue!);
    bench.device.processQueue(1);

    expect(bench.failures).toEqual([message]);
    expect(answerOf(bench)[1]).toBe(-ENOTCONN);
  });

  test('at a reset, the reset takes place nevertheless', () => {
    const bench = createBench({ getVringBase: undefined });
    bench.start();

    bench.write(R.status, 0);

    expect(bench.read(R.status)).toBe(0);
    expect([bench.link.severed, bench.failures]).toEqual([true, []]);
  });
});
