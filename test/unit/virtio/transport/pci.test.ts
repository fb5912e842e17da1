import { describe, expect, test } from 'bun:test';
import { createFunctionWords, placeBar, resetFunction } from '../../../../src/pci/function-state.ts';
import { CONFIG } from '../../../../src/pci/regs.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  QUEUE_WORD,
  queueWord,
} from '../../../../src/virtio/transport/device-state.ts';
import { DEVICE_TYPE, STATUS } from '../../../../src/virtio/transport/mmio.regs.ts';
import {
  readPciBar,
  readPciConfig,
  writePciBar,
  writePciConfig,
  type PciDevice,
} from '../../../../src/virtio/transport/pci.ts';
import {
  detachInterrupts,
  isVectorPending,
  routeInterrupts,
} from '../../../../src/virtio/transport/pci-interrupts.ts';
import { NO_VECTOR, PCI_BAR, PCI_CAP, PCI_COMMON as R } from '../../../../src/virtio/transport/pci.regs.ts';
import { virtioShape } from '../../../../src/virtio/transport/pci-shape.ts';

const QUEUES = 2;
const FIRST_GSI = 96;
const CONFIG_FD = 100;

/** A block device with two queues, whose eventfds are numbers and whose KVM is a list of calls. */
function plugIn() {
  const state = createDeviceState({
    type: DEVICE_TYPE.block,
    features: [9],
    queueSizes: [256, 128],
    config: Uint8Array.from([1, 2, 3, 4]),
  });
  state.words[DEVICE_WORD.configFd] = CONFIG_FD;
  for (let queue = 0; queue < QUEUES; queue++)
    state.words[queueWord(queue, QUEUE_WORD.callFd)] = CONFIG_FD + 1 + queue;
  const shape = virtioShape(DEVICE_TYPE.block, QUEUES);
  const words = createFunctionWords();
  resetFunction(words, shape);
  words[0] = 1;
  placeBar(words, 0xc000_8000);
  const calls: string[] = [];
  const counters = new Map<number, number>();
  const wiring = {
    setRoutes: () => calls.push('routes'),
    attach: (fd: number, gsi: number) => calls.push(`attach ${fd} ${gsi}`),
    detach: (fd: number, gsi: number) => calls.push(`detach ${fd} ${gsi}`),
    isSignalled: (fd: number) => (counters.get(fd) ?? 0) > 0,
    take: (fd: number) => {
      const was = (counters.get(fd) ?? 0) > 0;
      counters.delete(fd);
      return was;
    },
    signal: (fd: number) => void calls.push(`signal ${fd}`),
  };
  const wired = { words, shape, state, firstGsi: FIRST_GSI };
  const device: PciDevice = {
    ...wired,
    effects: {
      requestSync: () => calls.push('request'),
      sync: () => calls.push('sync'),
      notify: (queue) => calls.push(`notify ${queue}`),
      routeInterrupts: () => routeInterrupts(wired, wiring),
      isPending: (vector) => isVectorPending(wired, vector, wiring),
      placeNotifications: () => calls.push('place'),
      assertPin: () => calls.push('pin'),
    },
  };
  const common = {
    read: (offset: number, size: number) => readPciBar(device, PCI_BAR.common + offset, size),
    write: (offset: number, size: number, value: number) =>
      writePciBar(device, PCI_BAR.common + offset, size, value),
  };
  const program = (vector: number, control: number, data = 0x41) =>
    [0xfee0_0000, 0, data, control].forEach((value, i) =>
      writePciBar(device, PCI_BAR.msixTable + 16 * vector + 4 * i, 4, value),
    );
  const enableMsix = (bits = 0x8000) => writePciConfig(device, shape.msixCapability + 2, 2, bits);
  return { device, wired, wiring, common, program, enableMsix, calls, counters, state };
}

function acceptFeatures(common: ReturnType<typeof plugIn>['common']): void {
  common.write(R.driverFeatureSelect, 4, 1);
  common.write(R.driverFeature, 4, 1);
  common.write(R.deviceStatus, 1, 0x0b);
}

describe('the configuration space of a virtio device', () => {
  test('names vendor, device type and a structure for each type of capability', () => {
    const { device } = plugIn();
    const types: number[] = [];
    for (
      let at = readPciConfig(device, CONFIG.capabilities, 1);
      at !== 0;
      at = readPciConfig(device, at + 1, 1)
    )
      types.push(readPciConfig(device, at, 1) === 9 ? readPciConfig(device, at + PCI_CAP.configType, 1) : 0);
    expect([readPciConfig(device, 0, 4), types]).toEqual([0x10421af4, [0, 1, 3, 4, 2, 5]]);
  });

  test('reads and writes the BAR through the capability for it', () => {
    const { device, common } = plugIn();
    const at = device.shape.accessCapability;
    writePciConfig(device, at + PCI_CAP.offset, 4, PCI_BAR.common + R.queueSelect);
    writePciConfig(device, at + PCI_CAP.bytes, 4, 2);
    writePciConfig(device, at + 16, 2, 1);
    expect([readPciConfig(device, at + 16, 2), common.read(R.queueSelect, 2)]).toEqual([1, 1]);
  });

  test.each([
    ['another BAR', 1, 0, 4],
    ['an offset that is not aligned', 0, 2, 4],
    ['an offset behind the BAR', 0, 0x8000, 4],
    ['an offset that wraps around', 0, 0xffff_fffc, 4],
    ['a length that no access has', 0, 0, 3],
  ])('gives 0 for %s', (_, bar, offset, bytes) => {
    const { device } = plugIn();
    const at = device.shape.accessCapability;
    writePciConfig(device, at + PCI_CAP.bar, 1, bar);
    writePciConfig(device, at + PCI_CAP.offset, 4, offset);
    writePciConfig(device, at + PCI_CAP.bytes, 4, bytes);
    writePciConfig(device, at + 16, 4, 0xffff_ffff);
    expect(readPciConfig(device, at + 16, 4)).toBe(0);
  });

  test('says that the BAR has moved or is decoded, not when a write changes nothing', () => {
    const { device, calls } = plugIn();
    writePciConfig(device, CONFIG.command, 2, 2);
    writePciConfig(device, CONFIG.command, 2, 2);
    writePciConfig(device, CONFIG.bar0, 4, 0xd000_0000);
    expect(calls).toEqual(['place', 'place']);
  });
});

describe('the common configuration', () => {
  test('negotiates features as MMIO does', () => {
    const { common } = plugIn();
    common.write(R.deviceFeatureSelect, 4, 1);
    const offered = common.read(R.deviceFeature, 4);
    acceptFeatures(common);
    expect([offered & 1, common.read(R.deviceStatus, 1)]).toEqual([1, STATUS.featuresOkBit | 3]);
  });

  test('gives each queue its largest size, and the address at which it is notified', () => {
    const { common } = plugIn();
    const rows = [0, 1, 2].map((queue) => {
      common.write(R.queueSelect, 2, queue);
      return [common.read(R.queueSize, 2), common.read(R.queueNotifyOff, 2)];
    });
    expect([common.read(R.numQueues, 2), rows]).toEqual([
      2,
      [
        [256, 0],
        [128, 1],
        [0, 0],
      ],
    ]);
  });

  test('enables a queue with the size that it has, and disables it by a reset only', () => {
    const { common } = plugIn();
    common.write(R.queueEnable, 2, 1);
    common.write(R.queueEnable, 2, 0);
    common.write(R.queueSize, 2, 16);
    const enabled = [common.read(R.queueEnable, 2), common.read(R.queueSize, 2)];
    common.write(R.deviceStatus, 1, 0);
    expect([enabled, common.read(R.queueEnable, 2)]).toEqual([[1, 256], 0]);
  });

  test('takes vectors of the table only, and forgets them on reset', () => {
    const { common } = plugIn();
    common.write(R.configVector, 2, 0);
    common.write(R.queueVector, 2, 2);
    const valid = [common.read(R.configVector, 2), common.read(R.queueVector, 2)];
    common.write(R.queueVector, 2, 3);
    const invalid = common.read(R.queueVector, 2);
    common.write(R.deviceStatus, 1, 0);
    expect([valid, invalid, common.read(R.configVector, 2)]).toEqual([[0, 2], NO_VECTOR, NO_VECTOR]);
  });

  test('ignores accesses of another width', () => {
    const { common } = plugIn();
    common.write(R.queueSelect, 4, 1);
    expect([common.read(R.queueSelect, 2), common.read(R.deviceFeature, 2)]).toEqual([0, 0]);
  });
});

describe('the other structures', () => {
  test('ISR status is cleared by reading it, and shows in the status register', () => {
    const { device, state } = plugIn();
    Atomics.store(state.words, DEVICE_WORD.interruptStatus, 3);
    const status = readPciConfig(device, CONFIG.status, 2);
    const isr = [readPciBar(device, PCI_BAR.isr, 1), readPciBar(device, PCI_BAR.isr, 1)];
    expect([status, isr, readPciConfig(device, CONFIG.status, 2)]).toEqual([0x18, [3, 0], 0x10]);
  });

  test('the pin is asserted when it is enabled again with an interrupt standing', () => {
    const { device, state, calls } = plugIn();
    writePciConfig(device, CONFIG.command, 2, 0x400);
    Atomics.store(state.words, DEVICE_WORD.interruptStatus, 1);
    writePciConfig(device, CONFIG.command, 2, 0);
    expect(calls).toEqual(['pin']);
  });

  test('the device configuration is that of the device', () => {
    const { device } = plugIn();
    expect([readPciBar(device, PCI_BAR.device, 4), readPciBar(device, PCI_BAR.device + 4, 4)]).toEqual([
      0x04030201, 0,
    ]);
  });

  test('a write to a notify address notifies its queue, and to others nothing', () => {
    const { device, calls } = plugIn();
    for (const offset of [0, 4, 8, 2, 0xffc]) writePciBar(device, PCI_BAR.notify + offset, 2, 0);
    expect(calls).toEqual(['notify 0', 'notify 1']);
  });
});

describe('interrupts of a virtio device', () => {
  test('each source is attached to the GSI of its vector once that is unmasked', () => {
    const { common, program, enableMsix, calls } = plugIn();
    common.write(R.configVector, 2, 0);
    common.write(R.queueVector, 2, 1);
    program(0, 0);
    program(1, 0);
    const before = [...calls];
    enableMsix();
    expect([before, calls]).toEqual([
      [],
      ['routes', `attach 100 ${FIRST_GSI}`, `attach 101 ${FIRST_GSI + 1}`],
    ]);
  });

  test('a masked vector keeps what is signalled as its pending bit and delivers it when it is unmasked', () => {
    const { device, common, program, enableMsix, calls, counters } = plugIn();
    common.write(R.queueVector, 2, 1);
    enableMsix();
    program(1, 1);
    counters.set(101, 1);
    const pending = readPciBar(device, PCI_BAR.msixPba, 4);
    program(1, 0);
    expect([pending, readPciBar(device, PCI_BAR.msixPba, 4)]).toEqual([0b10, 0]);
    expect(calls).toEqual(['routes', `attach 101 ${FIRST_GSI + 1}`, 'signal 101']);
  });

  test('the function mask masks all of them', () => {
    const { common, program, enableMsix, calls } = plugIn();
    common.write(R.queueVector, 2, 1);
    program(1, 0);
    enableMsix();
    calls.length = 0;
    enableMsix(0xc000);
    expect(calls).toEqual([`detach 101 ${FIRST_GSI + 1}`]);
  });

  test('another message for a live vector gives KVM another route', () => {
    const { common, program, enableMsix, calls } = plugIn();
    common.write(R.queueVector, 2, 1);
    program(1, 0);
    enableMsix();
    calls.length = 0;
    writePciBar(plugIn().device, PCI_BAR.msixTable, 4, 0);
    program(1, 0, 0x42);
    expect(calls).toEqual(['routes']);
  });

  test('queues may share a vector', () => {
    const { device, common, program, enableMsix, counters } = plugIn();
    for (const queue of [0, 1]) {
      common.write(R.queueSelect, 2, queue);
      common.write(R.queueVector, 2, 1);
    }
    enableMsix();
    program(1, 1);
    counters.set(102, 1);
    expect(readPciBar(device, PCI_BAR.msixPba, 4)).toBe(0b10);
  });

  test('a reset of the device detaches its sources, and so does its removal', () => {
    const { wired, wiring, common, program, enableMsix, calls } = plugIn();
    const attach = () => {
      common.write(R.queueVector, 2, 1);
      program(1, 0);
      enableMsix();
      calls.length = 0;
    };
    attach();
    common.write(R.deviceStatus, 1, 0);
    const byReset = [...calls];
    attach();
    detachInterrupts(wired, wiring);
    const detached = [`detach 101 ${FIRST_GSI + 1}`];
    expect([byReset, calls]).toEqual([detached, detached]);
  });
});
