/** Virtio devices on the bus of one vCPU worker. Runs under the bus lock and allocates nothing per access. */
import { readMmio, writeMmio, type MmioDevice } from '../transport/mmio.ts';
import { DEVICE_WORD, viewDeviceState, type DeviceState } from '../transport/device-state.ts';
import { signalEventFd } from '../../ffi/epoll.ts';
import { PAGE_BYTES } from '../../machine/address.ts';
import { LAYOUT } from '../../machine/layout.ts';

/** What a vCPU worker is told of one device. */
export interface VirtioLink {
  readonly buffer: SharedArrayBuffer;
  readonly queueCount: number;
  /** Wakes the device worker up. */
  readonly controlFd: number;
  /** Kicks each queue. */
  readonly queueFds: readonly number[];
}

export type VirtioBus = readonly MmioDevice[];

/** A device worker that has to finish I/O first lets a vCPU wait; it looks this often whether the VM is ending. */
const ENDING_CHECK_MS = 50;

/** `isEnding` says whether the VM is being stopped: nobody waits for a device any more then. */
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

/** Index of the device whose page `address` lies in, or -1. */
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
