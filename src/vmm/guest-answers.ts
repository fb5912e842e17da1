/** How the main thread asks a guest for something by an ACPI event, and waits for its answer in registers. */
import type { AcpiEvents } from './acpi-events.ts';
import { tryLockBus, unlockBus, VM_WORD } from './bus/shared-state.ts';

/** How long a guest may take to answer: it may be booting, or have much to do first. */
export const ANSWER_TIMEOUT_MS = 30_000;
/** The interrupt is repeated, because a guest whose driver was not loaded yet has missed it. */
const REPEAT_MS = 500;
const BUS_CHECK_MS = 1;

/** `_OST` statuses. (ACPI 6.5 §6.3.5, tables 6.14 to 6.16) */
export const OST_SUCCESS = 0x00;
/** The operation is in progress; its result follows. */
export const OST_IN_PROGRESS = 0x84;
const OST_REASON: Readonly<Record<number, string>> = {
  0x01: 'a failure that it does not explain',
  0x02: 'it does not know the event',
  0x80: 'ejecting is not supported',
  0x81: 'the device is in use',
  0x82: 'the device is busy',
  0x83: 'the eject depends on another device',
};

export function describeOst(status: number): string {
  return OST_REASON[status] ?? 'with an unknown reason';
}

export function hasEnded(words: Int32Array): boolean {
  return Atomics.load(words, VM_WORD.ending) !== 0;
}

/** Raises the event until `done`, the time is up, or the guest has ended. `words` are those of VM_WORD. */
export async function awaitAnswer(
  words: Int32Array,
  acpiEvents: AcpiEvents,
  event: number,
  done: () => boolean,
): Promise<void> {
  const deadline = performance.now() + ANSWER_TIMEOUT_MS;
  let raiseAt = 0;
  for (;;) {
    const seen = Atomics.load(words, VM_WORD.hotplugRequests);
    const now = performance.now();
    if (done() || now >= deadline || hasEnded(words)) return;
    if (now >= raiseAt) {
      acpiEvents.raise(event);
      raiseAt = now + REPEAT_MS;
    }
    const wait = Atomics.waitAsync(words, VM_WORD.hotplugRequests, seen, REPEAT_MS);
    if (wait.async) await wait.value;
  }
}

/** Never blocks: whoever holds the bus lock may be waiting for this thread to read the console. */
export async function withBusLock(words: Int32Array, act: () => void): Promise<void> {
  while (!tryLockBus(words)) {
    if (hasEnded(words)) return;
    await Bun.sleep(BUS_CHECK_MS);
  }
  try {
    act();
  } finally {
    unlockBus(words);
  }
}
