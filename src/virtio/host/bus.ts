/**
 * The MMIO registers of all virtio devices, on a vCPU worker. Runs under the bus lock; accesses allocate
 * nothing.
 */
import { readMmio, writeMmio, type MmioDevice } from '../transport/mmio.ts';
import {
  DEVICE_WORD,
  QUEUE_WORD,
  queueWord,
  viewDeviceState,
  type DeviceState,
} from '../transport/device-state.ts';
import { signalEventFd } from '../../ffi/epoll.ts';
import { PAGE_BYTES } from '../../machine/address.ts';
import { LAYOUT } from '../../machine/layout.ts';

/** What a vCPU worker needs to reach one device. */
export interface VirtioLink {
  readonly buffer: SharedArrayBuffer;
  readonly queueCount: number;
}

export type VirtioBus = readonly MmioDevice[];

/** While a vCPU waits for a device worker to complete I/O, it checks this often whether the VM is ending. */
const ENDING_CHECK_MS = 50;

/**
 * The devices in slot order. `isEnding`: whether the VM is stopping, in which case no access waits any more.
 */
export function createVirtioBus(links: readonly VirtioLink[], isEnding: () => boolean): VirtioBus {
  return links.map(({ buffer, queueCount }) => {
    const state = viewDeviceState(buffer, queueCount);
    const notify = (queue: number) => signalEventFd(state.words[queueWord(queue, QUEUE_WORD.notifyFd)]!);
    return { state, effects: { ...createSyncEffects(state, isEnding), notify } };
  });
}

/** How a register access reaches the device's worker. */
export function createSyncEffects({ words }: DeviceState, isEnding: () => boolean) {
  return {
    requestSync: () => {
      Atomics.add(words, DEVICE_WORD.syncWanted, 1);
      signalEventFd(words[DEVICE_WORD.controlFd]!);
    },
    sync: () => {
      const wanted = Atomics.add(words, DEVICE_WORD.syncWanted, 1) + 1;
      signalEventFd(words[DEVICE_WORD.controlFd]!);
      waitForSync(words, wanted, isEnding);
    },
  };
}

function waitForSync(words: Int32Array, wanted: number, isEnding: () => boolean): void {
  for (;;) {
    const done = Atomics.load(words, DEVICE_WORD.syncDone);
    if (((done - wanted) | 0) >= 0 || isEnding()) return;
    Atomics.wait(words, DEVICE_WORD.syncDone, done, ENDING_CHECK_MS);
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
