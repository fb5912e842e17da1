/** Virtio devices on the bus of one vCPU worker. Runs under the bus lock and allocates nothing per access. */
import { readMmio, writeMmio, type MmioDevice } from '../devices/virtio/mmio.ts';
import { DEVICE_WORD, viewDeviceState, type DeviceState } from '../devices/virtio/device-state.ts';
import { signalEventFd } from '../ffi/epoll.ts';
import { PAGE_BYTES } from '../machine/address.ts';
import { LAYOUT } from '../machine/layout.ts';
import { VM_WORD } from './shared-state.ts';

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

/** `words` are those of the VM as a whole. */
export function createVirtioBus(words: Int32Array, links: readonly VirtioLink[]): VirtioBus {
  return links.map(({ buffer, queueCount, controlFd, queueFds }) => {
    const state = viewDeviceState(buffer, queueCount);
    const glue = {
      poke: () => {
        Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
        signalEventFd(controlFd);
      },
      sync: () => {
        const wanted = Atomics.add(state.words, DEVICE_WORD.syncWanted, 1) + 1;
        signalEventFd(controlFd);
        waitForSync(words, state, wanted);
      },
      notify: (queue: number) => signalEventFd(queueFds[queue]!),
    };
    return { state, glue };
  });
}

function waitForSync(words: Int32Array, state: DeviceState, wanted: number): void {
  for (;;) {
    const done = Atomics.load(state.words, DEVICE_WORD.syncDone);
    if (((done - wanted) | 0) >= 0 || Atomics.load(words, VM_WORD.ending) !== 0) return;
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
