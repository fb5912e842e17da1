/**
 * The MMIO registers of all virtio devices, on a vCPU worker. Runs under the bus lock; accesses allocate
 * nothing.
 */
import { readMmio, writeMmio, type MmioDevice } from '../transport/mmio.ts';
import { DEVICE_WORD, viewDeviceState, type DeviceState } from '../transport/device-state.ts';
import { signalEventFd } from '../../ffi/epoll.ts';
import { PAGE_BYTES } from '../../machine/address.ts';
import { LAYOUT } from '../../machine/layout.ts';

/** What a vCPU worker needs to reach one device. */
export interface VirtioLink {
  readonly buffer: SharedArrayBuffer;
  readonly queueCount: number;
  /** Control eventfd of the device worker. */
  readonly controlFd: number;
  /** Eventfd that notifies each queue. */
  readonly queueFds: readonly number[];
}

export type VirtioBus = readonly MmioDevice[];

/** While a vCPU waits for a device worker to complete I/O, it checks this often whether the VM is ending. */
const ENDING_CHECK_MS = 50;

/**
 * The devices in slot order. `isEnding`: whether the VM is stopping, in which case no access waits any more.
 */
export function createVirtioBus(links: readonly VirtioLink[], isEnding: () => boolean): VirtioBus {
  return links.map(({ buffer, queueCount, controlFd, queueFds }) => {
    const state = viewDeviceState(buffer, queueCount);
    const effects = {
      requestSync: () => {
        Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
        signalEventFd(controlFd);
      },
      sync: () => {
        const wanted = Atomics.add(state.words, DEVICE_WORD.syncWanted, 1) + 1;
        signalEventFd(controlFd);
        waitForSync(state, wanted, isEnding);
      },
      notify: (queue: number) => signalEventFd(queueFds[queue]!),
    };
    return { state, effects };
  });
}

function waitForSync(state: DeviceState, wanted: number, isEnding: () => boolean): void {
  for (;;) {
    const done = Atomics.load(state.words, DEVICE_WORD.syncDone);
    if (((done - wanted) | 0) >= 0 || isEnding()) return;
    Atomics.wait(state.words, DEVICE_WORD.syncDone, done, ENDING_CHECK_MS);
  }
}

const FIRST = LAYOUT.virtio.address;

/** Slot of the device whose registers `address` lies in, or -1. */
export function virtioSlot(bus: VirtioBus, address: number): number {
  const slot = Math.floor((address - FIRST) / PAGE_BYTES);
  return slot >= 0 && slot < bus.length ? slot : -1;
}

export function readVirtio(bus: VirtioBus, slot: number, address: number, size: number): number {
  return readMmio(bus[slot]!, (address - FIRST) % PAGE_BYTES, size);
}

export function writeVirtio(
  bus: VirtioBus,
  slot: number,
  address: number,
  size: number,
  value: number,
): void {
  writeMmio(bus[slot]!, (address - FIRST) % PAGE_BYTES, size, value);
}
