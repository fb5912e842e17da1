/** The ring of console output from vCPU threads, which hold the bus lock, to the main thread. */
import { now, ringDoorbell, tryLockBus, VM_MOMENT, VM_WORD, type SharedState } from '../bus/shared-state.ts';

/** How often a vCPU that waits for room in the ring checks whether the VM is ending. */
const FULL_WAIT_MS = 50;

/**
 * Appends a byte. While the ring is full it waits for the main thread; once the VM is ending it drops the
 * byte.
 */
export function pushConsoleByte(shared: SharedState, byte: number): void {
  const { words, transmitted, moments } = shared;
  const head = words[VM_WORD.transmitHead]!;
  while (((head - Atomics.load(words, VM_WORD.transmitTail)) | 0) >= transmitted.length) {
    if (Atomics.load(words, VM_WORD.ending) !== 0) return;
    ringDoorbell(words);
    Atomics.wait(words, VM_WORD.transmitTail, (head - transmitted.length) | 0, FULL_WAIT_MS);
  }
  transmitted[head & (transmitted.length - 1)] = byte;
  Atomics.store(words, VM_WORD.transmitHead, (head + 1) | 0);
  if (moments[VM_MOMENT.firstConsoleByte] === 0) moments[VM_MOMENT.firstConsoleByte] = now();
  ringDoorbell(words);
}

/** Whether a vCPU that writes now has to wait for the console's reader. */
export function isConsoleFull({ words, transmitted }: SharedState): boolean {
  const waiting = (Atomics.load(words, VM_WORD.transmitHead) - Atomics.load(words, VM_WORD.transmitTail)) | 0;
  return waiting >= transmitted.length;
}

const BUS_CHECK_MS = 1;

/**
 * Takes the bus lock on the main thread, which alone empties the ring: false when the holder of the lock may
 * be waiting for that.
 */
export function lockBusUnlessFull(shared: SharedState): boolean {
  const { words } = shared;
  if (tryLockBus(words)) return true;
  // As lockBus does, with a timeout.
  while (Atomics.exchange(words, VM_WORD.busLock, 2) !== 0) {
    if (isConsoleFull(shared)) return false;
    Atomics.wait(words, VM_WORD.busLock, 2, BUS_CHECK_MS);
  }
  return true;
}

/** The oldest bytes up to the end of the buffer, at most `limit`; empty when there is none. */
export function peekConsole(shared: SharedState, limit: number): Uint8Array {
  const { words, transmitted } = shared;
  const tail = words[VM_WORD.transmitTail]!;
  const waiting = (Atomics.load(words, VM_WORD.transmitHead) - tail) | 0;
  const start = tail & (transmitted.length - 1);
  return transmitted.subarray(start, start + Math.min(waiting, limit, transmitted.length - start));
}

/** Frees the oldest `count` bytes. */
export function dropConsole(shared: SharedState, count: number): void {
  const { words } = shared;
  Atomics.store(words, VM_WORD.transmitTail, (words[VM_WORD.transmitTail]! + count) | 0);
  Atomics.notify(words, VM_WORD.transmitTail);
}
