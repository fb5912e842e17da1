/**
 * Virtio devices on a real KVM, with their workers, and a driver in this process: RAM and rings as a guest has
 * them, but no vCPU. The devices can be moved to another such machine.
 */
import * as v from 'valibot';
import { arrayBufferAt } from '../../src/ffi/libc.ts';
import { KvmSystem } from '../../src/kvm/system.ts';
import { guestAddress, PAGE_BYTES } from '../../src/machine/address.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { GuestMemory } from '../../src/memory/guest-memory.ts';
import { parseConfig } from '../../src/api/index.ts';
import { createVirtioBus, readVirtio, writeVirtio, type VirtioBus } from '../../src/virtio/host/bus.ts';
import { DeviceSet } from '../../src/virtio/host/device-set.ts';
import { readPmemBytes } from '../../src/virtio/pmem/open.ts';
import { placePmem } from '../../src/virtio/pmem/placement.ts';
import { sandboxNeedsOf } from '../../src/virtio/host/specs.ts';
import { OpenDevices } from '../../src/virtio/host/open.ts';
import { SavedDeviceSchema, type SavedDevice } from '../../src/virtio/host/saved-device.ts';
import type { VirtioReport } from '../../src/virtio/host/worker-start.ts';
import { featureWords } from '../../src/virtio/transport/device-state.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import {
  DESCRIPTORS,
  DEVICE_AREA,
  DRIVER_AREA,
  packedDriver,
  splitDriver,
  type TestBuffer,
  type TestDriver,
} from '../unit/virtio/test-ram.ts';

const RAM_BYTES = 0x40_0000;
/** Rings of a queue have so many bytes of their own; those of a device lie behind those of the one before. */
const RING_SPACE = 0x8000;
const QUEUES_OF_DEVICE = 8;
export const BUFFERS = 0x20_0000;
export const RING_SIZE = 16;

export interface DeviceMachine extends Disposable {
  readonly devices: DeviceSet;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly reports: VirtioReport[];
  readonly bus: VirtioBus;
}

/** `sections` are those of a configuration file. With `from` RAM and devices are a saved machine's. */
export function createDeviceMachine(
  sections: Record<string, unknown>,
  from?: { readonly saved: readonly SavedDevice[]; readonly memory: Uint8Array },
): DeviceMachine {
  using stack = new DisposableStack();
  const configs = parseConfig(sections).config.devices;
  const pmem = placePmem(
    configs.filter(({ kind }) => kind === 'pmem'),
    configs.flatMap((config) => (config.kind === 'pmem' ? [readPmemBytes(config)] : [])),
    [{ address: guestAddress(0), bytes: RAM_BYTES }],
  );
  const system = stack.use(new KvmSystem());
  const vm = stack.use(system.createVm());
  vm.createInterruptControllers();
  const memory = stack.use(
    new GuestMemory([{ address: guestAddress(0), bytes: RAM_BYTES }], {
      shared: sandboxNeedsOf(configs).has('share'),
    }),
  );
  if (from) memory.write(guestAddress(0), from.memory);
  memory.regions.forEach(({ address, bytes, host }, slot) => vm.setMemorySlot(slot, address, bytes, host));
  const open = stack.use(new OpenDevices());
  const devices = stack.use(new DeviceSet({ configs, open, pmem, vm, memory, restored: from?.saved }));
  stack.defer(() => devices.stop());
  const bytes = new Uint8Array(arrayBufferAt(memory.hostAddress(guestAddress(0), RAM_BYTES), RAM_BYTES));
  const reports: VirtioReport[] = [];
  devices.start(undefined, (report) => reports.push(report));
  const owned = stack.move();
  return {
    devices,
    bytes,
    view: new DataView(bytes.buffer),
    reports,
    bus: createVirtioBus(devices.links, () => false),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** State of a paused machine, as the text of a snapshot gives it. */
export function saveMachine({ devices, bytes }: DeviceMachine) {
  const saved: SavedDevice[] = JSON.parse(JSON.stringify(devices.save()));
  return { saved: saved.map((each) => v.parse(SavedDeviceSchema, each)), memory: bytes.slice() };
}

export interface DriverQueue {
  /** Makes a chain available, without a notification. */
  add(buffers: readonly TestBuffer[]): number;
  notify(): void;
  takeUsed(): { id: number; written: number } | undefined;
}

/**
 * The driver of the device at `slot`. It goes on in another machine by `moveTo`, with what it knows of its rings.
 */
export class MachineDriver {
  readonly slot: number;
  readonly #packed: boolean;
  #machine: DeviceMachine;
  /** A view that follows the machine. */
  readonly #ram: { view: DataView };

  constructor(machine: DeviceMachine, slot: number, packed = false) {
    this.slot = slot;
    this.#packed = packed;
    this.#machine = machine;
    this.#ram = { view: machine.view };
  }

  moveTo(machine: DeviceMachine): void {
    this.#machine = machine;
    this.#ram.view = machine.view;
  }

  read(register: number, size = 4): number {
    return readVirtio(this.#machine.bus, this.slot, this.#address(register), size);
  }

  write(register: number, value: number, size = 4): void {
    writeVirtio(this.#machine.bus, this.slot, this.#address(register), size, value);
  }

  /** Sets up the first `queues` queues and says DRIVER_OK. */
  start(queues: number, features: readonly number[] = []): DriverQueue[] {
    this.write(R.status, 0);
    this.#machine.bytes.fill(0, this.#ring(0), this.#ring(queues));
    this.write(R.status, 3);
    const bits = [...features, FEATURE.version1, ...(this.#packed ? [FEATURE.ringPacked] : [])];
    featureWords(bits).forEach((word, select) => {
      this.write(R.driverFeaturesSel, select);
      this.write(R.driverFeatures, word);
    });
    this.write(R.status, 11);
    for (let queue = 0; queue < queues; queue++) {
      this.write(R.queueSel, queue);
      this.write(R.queueNum, RING_SIZE);
      this.write(R.queueDescLow, this.#ring(queue) + DESCRIPTORS);
      this.write(R.queueDriverLow, this.#ring(queue) + DRIVER_AREA);
      this.write(R.queueDeviceLow, this.#ring(queue) + DEVICE_AREA);
      this.write(R.queueReady, 1);
    }
    this.write(R.status, 15);
    return Array.from({ length: queues }, (_, queue) => this.#queue(queue));
  }

  #queue(index: number): DriverQueue {
    const driver: TestDriver = (this.#packed ? packedDriver : splitDriver)(
      viewThatFollows(this.#ram),
      RING_SIZE,
      this.#ring(index),
    );
    return { ...driver, notify: () => this.write(R.queueNotify, index) };
  }

  #ring(queue: number): number {
    return (this.slot * QUEUES_OF_DEVICE + queue) * RING_SPACE;
  }

  #address(register: number): number {
    return LAYOUT.virtio.address + this.slot * PAGE_BYTES + register;
  }
}

/** The drivers of test-ram.ts take their view once: this one is always that of the machine of the moment. */
function viewThatFollows(ram: { readonly view: DataView }): { readonly view: DataView } {
  const methods = ['getUint16', 'getUint32', 'setUint16', 'setUint32'] as const;
  const view = Object.fromEntries(
    methods.map((name) => [
      name,
      (...args: [number, number, boolean]) => (ram.view[name] as (...a: unknown[]) => unknown)(...args),
    ]),
  );
  return { view: view as unknown as DataView };
}
