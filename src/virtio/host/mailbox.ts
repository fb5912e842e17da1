/**
 * Carries changes of one device from the main thread to its worker, which receives no messages while it serves: JSON in
 * shared memory, announced by the worker's control eventfd. One change is under way at a time.
 */
import { signalEventFd } from '../../ffi/epoll.ts';
import { VoltError } from '../../volt-error.ts';
import type { DeviceChange } from '../transport/device-change.ts';

/** `sent` and `done` count changes; `done` is a futex word. `failed`: the text is why the last one failed. */
const WORD = { sent: 0, done: 1, failed: 2, length: 3, size: 4 } as const;
const TEXT_OFFSET = 4 * WORD.size;
const MAX_TEXT_BYTES = 4096;
const TIMEOUT_MS = 10_000;

export function createMailbox(): SharedArrayBuffer {
  return new SharedArrayBuffer(TEXT_OFFSET + MAX_TEXT_BYTES);
}

/** Resolves when the worker has made the change. Throws VoltError 'host' if it cannot, or does not in time. */
export async function sendChange(
  mailbox: SharedArrayBuffer,
  controlFd: number,
  change: DeviceChange,
): Promise<void> {
  const words = new Int32Array(mailbox, 0, WORD.size);
  writeText(mailbox, JSON.stringify(change));
  const number = Atomics.add(words, WORD.sent, 1) + 1;
  signalEventFd(controlFd);
  const deadline = performance.now() + TIMEOUT_MS;
  for (let done = Atomics.load(words, WORD.done); done !== number; done = Atomics.load(words, WORD.done)) {
    const left = deadline - performance.now();
    const wait = left > 0 ? Atomics.waitAsync(words, WORD.done, done, left) : undefined;
    if (!wait) throw new VoltError('host', 'Cannot change the device: its worker does not answer; try again');
    if (wait.async) await wait.value;
  }
  if (words[WORD.failed] !== 0)
    throw new VoltError('host', `Cannot change the device: ${readText(mailbox)}; try again`);
}

/** On the worker: makes the change that was announced, if there is one, by `make`. */
export function receiveChange(mailbox: SharedArrayBuffer, make: (change: DeviceChange) => void): void {
  const words = new Int32Array(mailbox, 0, WORD.size);
  const sent = Atomics.load(words, WORD.sent);
  if (sent === Atomics.load(words, WORD.done)) return;
  words[WORD.failed] = 0;
  try {
    make(JSON.parse(readText(mailbox)) as DeviceChange);
  } catch (error) {
    writeText(mailbox, error instanceof Error ? error.message : String(error));
    words[WORD.failed] = 1;
  }
  Atomics.store(words, WORD.done, sent);
  Atomics.notify(words, WORD.done);
}

function writeText(mailbox: SharedArrayBuffer, text: string): void {
  const bytes = Buffer.from(text, 'utf8').subarray(0, MAX_TEXT_BYTES);
  new Uint8Array(mailbox, TEXT_OFFSET).set(bytes);
  new Int32Array(mailbox, 0, WORD.size)[WORD.length] = bytes.length;
}

function readText(mailbox: SharedArrayBuffer): string {
  const length = new Int32Array(mailbox, 0, WORD.size)[WORD.length]!;
  return Buffer.from(new Uint8Array(mailbox, TEXT_OFFSET, length).slice()).toString('utf8');
}
