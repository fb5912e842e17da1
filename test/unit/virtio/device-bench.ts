/** A device behind its transport and runner with all its queues, driven as a driver on one thread would, for tests. */
import type { DeviceDescription, VirtioDevice } from '../../../src/virtio/transport/device.ts';
import * as v from 'valibot';
import { restoreDevice, saveDevice } from '../../../src/virtio/host/save-device.ts';
import { SavedDeviceSchema, type SavedDevice } from '../../../src/virtio/host/saved-device.ts';
import type { DeviceKind } from '../../../src/virtio/host/specs.ts';
import {
  createDeviceState,
  DEVICE_WORD,
  featureWords,
  type DeviceState,
} from '../../../src/virtio/transport/device-state.ts';
import { readMmio, writeMmio, type MmioDevice } from '../../../src/virtio/transport/mmio.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../../src/virtio/transport/mmio.regs.ts';
import { DeviceRunner } from '../../../src/virtio/transport/runner.ts';
import {
  createTestRam,
  DESCRIPTORS,
  DEVICE_AREA,
  DRIVER_AREA,
  packedDriver,
  splitDriver,
  type TestBuffer,
  type TestDriver,
  type TestRam,
} from './test-ram.ts';

/** Each queue's rings have so many bytes of their own, from 0 on; buffers lie behind them. */
export const RING_SPACE = 0x8000;
const NEEDS_RESET = 0x40;
const ACKNOWLEDGED = 3;
const FEATURES_OK = 8;
const DRIVER_OK = 4;

export interface BenchQueue extends TestDriver {
  /** Adds a chain and notifies the device. */
  offer(buffers: readonly TestBuffer[]): number;
  notify(): void;
}

export interface BenchOptions {
  readonly packed?: boolean;
  readonly ramBytes?: number;
  /** Instead of memory that nobody but the bench has. */
  readonly memory?: TestRam;
  /** Entries of each ring; at most 256. */
  readonly ringSize?: number;
}

/** `features` are those that the driver accepts besides VERSION_1. */
export function createDeviceBench(
  description: DeviceDescription,
  device: VirtioDevice,
  features: readonly number[],
  {
    packed = false,
    ramBytes = 0x40_0000,
    ringSize = 64,
    memory = createTestRam(ramBytes),
  }: BenchOptions = {},
) {
  const failures: string[] = [];
  let interrupts = 0;
  const connect = (state: DeviceState, served: VirtioDevice) => {
    const runner = new DeviceRunner(served, state, memory.ram, {
      interrupt: () => void interrupts++,
      now: () => performance.now(),
      reportFailure: (reason) => failures.push(reason),
    });
    const sync = () => {
      Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
      runner.sync();
    };
    const effects = { requestSync: sync, sync, notify: (queue: number) => runner.handleNotification(queue) };
    return { state, runner, mmio: { state, effects } satisfies MmioDevice };
  };
  let current = connect(createDeviceState(description), device);
  const read = (register: number, size = 4) => readMmio(current.mmio, register, size);
  const write = (register: number, value: number, size = 4) => writeMmio(current.mmio, register, size, value);

  const makeQueue = (index: number): BenchQueue => {
    const size = Math.min(ringSize, description.queueSizes[index]!);
    const driver = (packed ? packedDriver : splitDriver)(memory, size, index * RING_SPACE);
    const notify = () => write(R.queueNotify, index);
    return {
      ...driver,
      notify,
      offer(buffers) {
        const id = driver.add(buffers);
        notify();
        return id;
      },
    };
  };

  const start = (): BenchQueue[] => {
    write(R.status, 0);
    memory.bytes.fill(0, 0, description.queueSizes.length * RING_SPACE);
    write(R.status, ACKNOWLEDGED);
    const words = featureWords([...features, FEATURE.version1, ...(packed ? [FEATURE.ringPacked] : [])]);
    words.forEach((word, select) => {
      write(R.driverFeaturesSel, select);
      write(R.driverFeatures, word);
    });
    write(R.status, ACKNOWLEDGED | FEATURES_OK);
    description.queueSizes.forEach((most, index) => {
      write(R.queueSel, index);
      write(R.queueNum, Math.min(ringSize, most));
      write(R.queueDescLow, index * RING_SPACE + DESCRIPTORS);
      write(R.queueDriverLow, index * RING_SPACE + DRIVER_AREA);
      write(R.queueDeviceLow, index * RING_SPACE + DEVICE_AREA);
      write(R.queueReady, 1);
    });
    write(R.status, ACKNOWLEDGED | FEATURES_OK | DRIVER_OK);
    return description.queueSizes.map((_, index) => makeQueue(index));
  };

  /** State of the device, which is paused; as a snapshot's text has it. */
  const save = (kind: DeviceKind): SavedDevice => {
    current.runner.pause();
    const saved = saveDevice(
      { config: { kind, id: 'id' }, description, state: current.state, failure: undefined },
      0,
    );
    return v.parse(SavedDeviceSchema, JSON.parse(JSON.stringify(saved)));
  };
  /** Ends the device; `next`, as `nextDescription` describes it, continues with the state. */
  const restore = (saved: SavedDevice, next: VirtioDevice, nextDescription = description): void => {
    const state = createDeviceState(nextDescription);
    const kind = saved.kind as DeviceKind;
    restoreDevice({ config: { kind, id: 'id' }, description: nextDescription, state }, saved);
    current.runner.stop();
    current = connect(state, next);
    current.runner.start();
  };

  return {
    ...memory,
    get state() {
      return current.state;
    },
    get runner() {
      return current.runner;
    },
    save,
    restore,
    /** The driver goes on in another machine, where `next` serves it. */
    move: (kind: DeviceKind, next: VirtioDevice) => restore(save(kind), next),
    failures,
    read,
    write,
    start,
    interrupts: () => interrupts,
    needsReset: () => (read(R.status) & NEEDS_RESET) !== 0,
    /** Where buffers may lie. */
    buffers: description.queueSizes.length * RING_SPACE,
  };
}

/** Timers that a test fires by hand, and a clock. */
export function createTestClock() {
  let now = 0;
  const timers = new Set<{ at: number; handler: () => void }>();
  return {
    now: () => now,
    after(delayMs: number, handler: () => void) {
      const timer = { at: now + delayMs, handler };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    /** Lets time pass and calls what is due, also what becomes so meanwhile, in order. */
    advance(ms: number) {
      const end = now + ms;
      for (;;) {
        const due = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (!due) break;
        timers.delete(due);
        now = Math.max(now, due.at);
        due.handler();
      }
      now = end;
    },
    pending: () => timers.size,
  };
}
