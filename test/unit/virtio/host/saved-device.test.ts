/** What a snapshot may say of a device, and when a device of this machine may continue with it. */
import { describe, expect, test } from 'bun:test';
import * as v from 'valibot';
import { describeBlock, type BlockShape } from '../../../../src/virtio/block/description.ts';
import { BALLOON_CONFIG } from '../../../../src/virtio/balloon/regs.ts';
import { describeBalloon } from '../../../../src/virtio/balloon/device.ts';
import { describeNet, type NetOptions } from '../../../../src/virtio/net/device.ts';
import { describePmem } from '../../../../src/virtio/pmem/device.ts';
import { describeVsock } from '../../../../src/virtio/vsock/device.ts';
import { checkSavedDevices, restoreDevice, saveDevice } from '../../../../src/virtio/host/save-device.ts';
import { SavedDeviceSchema, type SavedDevice } from '../../../../src/virtio/host/saved-device.ts';
import type { DeviceConfig, DeviceKind } from '../../../../src/virtio/host/specs.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  QUEUE_WORD,
  queueWord,
} from '../../../../src/virtio/transport/device-state.ts';
import type { DeviceDescription } from '../../../../src/virtio/transport/device.ts';
import { readMmio } from '../../../../src/virtio/transport/mmio.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import { voltErrorOf } from '../../support/errors.ts';

const SHAPE: BlockShape = {
  id: 'disk',
  sectors: 4096,
  readOnly: false,
  queues: 2,
  blockBytes: 512,
  flush: true,
};
const NET: NetOptions = { mac: Uint8Array.of(6, 0, 0, 0, 0, 1), pairs: 1, mtu: undefined, offloads: true };

function deviceOf(kind: DeviceKind, description: DeviceDescription) {
  return {
    config: { kind, id: kind },
    description,
    state: createDeviceState(description),
    failure: undefined,
  };
}

/** A device whose driver has agreed on all features and says DRIVER_OK. */
function runningDevice(kind: DeviceKind, description: DeviceDescription) {
  const device = deviceOf(kind, description);
  const { words } = device.state;
  words[DEVICE_WORD.driverLow] = words[DEVICE_WORD.offeredLow]!;
  words[DEVICE_WORD.driverHigh] = words[DEVICE_WORD.offeredHigh]!;
  words[DEVICE_WORD.status] = 15;
  words[DEVICE_WORD.active] = 1;
  description.stateWords?.forEach(({ min }, i) => (device.state.own[i] = min));
  return device;
}

const throughText = (saved: SavedDevice): SavedDevice =>
  v.parse(SavedDeviceSchema, JSON.parse(JSON.stringify(saved)));

describe('a saved device', () => {
  test('comes back with every word that its driver wrote, whatever it was', () => {
    const before = runningDevice('block', describeBlock(SHAPE));
    const { words } = before.state;
    const written = [
      ...[DEVICE_WORD.deviceFeaturesSel, DEVICE_WORD.driverFeaturesSel, DEVICE_WORD.queueSel],
      ...[DEVICE_WORD.interruptStatus, DEVICE_WORD.generation, DEVICE_WORD.failures],
      ...[0, 1].flatMap((queue) =>
        Array.from({ length: QUEUE_WORD.next - QUEUE_WORD.size }, (_, i) =>
          queueWord(queue, QUEUE_WORD.size + i),
        ),
      ),
    ];
    written.forEach((index, i) => (words[index] = -1 - i));
    words[DEVICE_WORD.interruptStatus] = 3;
    for (const queue of [0, 1]) {
      words[queueWord(queue, QUEUE_WORD.ready)] = 1;
      words[queueWord(queue, QUEUE_WORD.next)] = 0xffff - queue;
      words[queueWord(queue, QUEUE_WORD.wrap)] = queue;
    }
    const after = deviceOf('block', describeBlock(SHAPE));

    restoreDevice(after, throughText(saveDevice(before, 0)));

    const expected = words.slice();
    expected[DEVICE_WORD.active] = 0;
    expected[DEVICE_WORD.restored] = 1;
    expect(after.state.words).toEqual(expected);
    expect(after.state.config).toEqual(before.state.config);
  });

  test('is what it was when it is saved again before it has started', () => {
    const saved = saveDevice(runningDevice('vsock', describeVsock(3)), 0);
    const after = deviceOf('vsock', describeVsock(3));

    restoreDevice(after, saved);

    expect(saveDevice(after, 0)).toEqual(saved);
  });

  test('shows the copy of the configuration space that its driver sees', () => {
    const device = runningDevice('vsock', describeVsock(3));
    device.state.words[DEVICE_WORD.generation] = 7;
    device.state.config[0] = 99;

    const saved = saveDevice(device, 0);

    expect(Buffer.from(saved.config, 'base64')[0]).toBe(3);
    expect(saved.generation).toBe(7);
  });
});

describe('a device of this machine', () => {
  const restoreError = (kind: DeviceKind, saved: DeviceDescription, here: DeviceDescription) =>
    voltErrorOf(() => restoreDevice(deviceOf(kind, here), saveDevice(runningDevice(kind, saved), 0)));

  test.each([
    ['a smaller disk', { sectors: 2048 }, 'its size in sectors is 2048 (expected 4096, as in the snapshot)'],
    [
      'a disk with larger blocks',
      { blockBytes: 4096 },
      'its block size is 4096 (expected 512, as in the snapshot)',
    ],
    ['a disk with fewer queues', { queues: 1 }, 'it has 1 queues (expected 2, as in the snapshot)'],
    [
      'a read-only disk',
      { readOnly: true },
      'its driver uses discard and writeZeroes, which this host does not offer; restore it where it is offered',
    ],
    [
      'a disk without flushes',
      { flush: false },
      'its driver uses flush, which this host does not offer; restore it where it is offered',
    ],
  ] as const)('that is %s is refused in one line', (_, change, problem) => {
    const error = restoreError('block', describeBlock(SHAPE), describeBlock({ ...SHAPE, ...change }));

    expect(error.message).toBe(`Cannot restore device block (block): ${problem}`);
  });

  test('that is persistent memory of another size is refused in one line', () => {
    const pmem = (bytes: number) => describePmem({ address: 2 ** 32, bytes });

    expect(restoreError('pmem', pmem(2 ** 21), pmem(2 ** 22)).message).toBe(
      'Cannot restore device pmem (pmem): its size in bytes is 4194304 (expected 2097152, as in the snapshot)',
    );
  });

  test('may lack a feature before its driver has agreed on features', () => {
    const before = runningDevice('block', describeBlock(SHAPE));
    before.state.words[DEVICE_WORD.status] = 3;
    before.state.words[DEVICE_WORD.active] = 0;
    const here = deviceOf('block', describeBlock({ ...SHAPE, flush: false }));

    restoreDevice(here, saveDevice(before, 0));

    expect(here.state.words[DEVICE_WORD.status]).toBe(3);
  });

  test('may offer more than the driver knows', () => {
    const here = deviceOf('net', describeNet(NET));

    restoreDevice(here, saveDevice(runningDevice('net', describeNet({ ...NET, mac: undefined })), 0));

    expect(here.state.words[DEVICE_WORD.offeredLow]).not.toBe(here.state.words[DEVICE_WORD.driverLow]);
  });

  test('shows its own MAC address in a new generation of the configuration space', () => {
    const before = runningDevice('net', describeNet(NET));
    const here = deviceOf('net', describeNet({ ...NET, mac: Uint8Array.of(6, 0, 0, 0, 0, 2) }));

    restoreDevice(here, saveDevice(before, 0));

    const mmio = { state: here.state, effects: { requestSync() {}, sync() {}, notify() {} } };
    expect(readMmio(mmio, R.config + 5, 1)).toBe(2);
    expect(readMmio(mmio, R.configGeneration, 4)).toBe(1);
    expect(readMmio(mmio, R.interruptStatus, 4)).toBe(2);
  });

  test('that is a balloon has the saved size and target', () => {
    const options = { pages: 512, deflateOnOom: true, statsSeconds: 0 };
    const before = runningDevice('balloon', describeBalloon(options));
    before.state.config[BALLOON_CONFIG.actual] = 77;
    before.state.config[BALLOON_CONFIG.pageCount + 1] = 9;
    const here = deviceOf('balloon', describeBalloon(options));

    restoreDevice(here, saveDevice(before, 0));

    expect(here.state.config[BALLOON_CONFIG.actual]).toBe(77);
    expect(here.state.config[BALLOON_CONFIG.pageCount + 1]).toBe(9);
  });
});

describe('the devices of a snapshot', () => {
  const configs = [
    { kind: 'block', id: 'disk0' },
    { kind: 'net', id: 'net0' },
  ] as unknown as DeviceConfig[];
  const saved = configs.map(({ kind, id }, slot) => ({ kind, id, slot }) as SavedDevice);

  test('fit a machine with the same ones in the same order', () => {
    expect(() => checkSavedDevices(configs, saved)).not.toThrow();
  });

  test.each([
    ['one is missing', configs.slice(1), 'number 0 is net net0 (expected block disk0, as in the snapshot)'],
    ['one is new', [...configs, configs[0]!], 'number 2 is block disk0 (expected none, as in the snapshot)'],
    [
      'they are in another order',
      [...configs].reverse(),
      'number 0 is net net0 (expected block disk0, as in the snapshot)',
    ],
  ] as const)('are refused in one line where %s', (_, here, problem) => {
    const { message } = voltErrorOf(() => checkSavedDevices(here, saved));

    expect(message).toBe(`Cannot restore the devices: ${problem}`);
  });
});

describe('a forged device', () => {
  const device = saveDevice(runningDevice('net', describeNet(NET)), 0);
  const [queue] = device.queues;

  test.each([
    ['a queue that is ready twice', { queues: [{ ...queue, ready: 2 }] }],
    ['a position beyond 16 bits', { queues: [{ ...queue, next: 0x1_0000 }] }],
    ['a negative position', { queues: [{ ...queue, next: -1 }] }],
    ['a wrap counter of 2', { queues: [{ ...queue, wrap: 2 }] }],
    ['a size beyond 32 bits', { queues: [{ ...queue, size: 2 ** 32 }] }],
    ['half an address', { queues: [{ ...queue, driver: [1] }] }],
    ['an address of three words', { queues: [{ ...queue, driver: [1, 2, 3] }] }],
    ['a fraction', { queues: [{ ...queue, next: 0.5 }] }],
    ['a thousand queues', { queues: Array.from({ length: 1000 }, () => queue) }],
    ['no queues', { queues: undefined }],
    ['a status with unknown bits', { status: 0x10 }],
    ['an interrupt status with unknown bits', { interruptStatus: 4 }],
    ['a configuration space of 257 bytes', { config: Buffer.alloc(257).toString('base64') }],
    ['a configuration space that is no base64', { config: '####' }],
    ['words that are no numbers', { words: { offloads: '1' } }],
    [
      'ten thousand words',
      { words: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`w${i}`, 0])) },
    ],
    ['an id of a mebibyte', { id: 'x'.repeat(2 ** 20) }],
    ['an endless failure', { failure: 'x'.repeat(2 ** 20) }],
    ['a slot that no bus has', { slot: 2 ** 31 }],
    ['features as text', { negotiated: ['0', '1'] }],
  ])('with %s is refused', (_, change) => {
    const result = v.safeParse(SavedDeviceSchema, JSON.parse(JSON.stringify({ ...device, ...change })));

    expect(result.success).toBe(false);
    expect(result.issues![0].message).not.toContain('\n');
  });

  test.each([
    ['is missing', {}, 'its word offloads is missing (expected 0 to 4294967295)'],
    [
      'is out of its range',
      { offloads: 0, activePairs: 2, macLow: 0, macHigh: 0 },
      'its word activePairs is 2 (expected 1 to 1)',
    ],
    [
      'is one that every object has',
      { offloads: 0, activePairs: 1, macLow: 0, toString: 1 },
      'its word macHigh is missing (expected 0 to 65535)',
    ],
  ] as const)('of which a word %s is refused', (_, words, problem) => {
    const error = voltErrorOf(() =>
      restoreDevice(deviceOf('net', describeNet(NET)), {
        ...device,
        words: { ...words } as Record<string, number>,
      }),
    );

    expect(error.message).toBe(`Cannot restore device net (net): ${problem}`);
  });

  test('with a shorter configuration space is refused', () => {
    const config = Buffer.alloc(4).toString('base64');

    const error = voltErrorOf(() => restoreDevice(deviceOf('net', describeNet(NET)), { ...device, config }));

    expect(error.message).toBe(
      'Cannot restore device net (net): its configuration space has 12 bytes (expected 4)',
    );
  });
});
