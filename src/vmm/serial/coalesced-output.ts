/**
 * Console output without an exit for each byte, while a guest prints fast.
 *
 * KVM then gathers the writes to the UART's data register in a ring. Whoever leaves the guest empties it before looking
 * at his own exit, and the main thread looks every few milliseconds, so that the order stays and nothing lies about. A
 * guest that prints little has its exits, and costs the main thread nothing.
 *
 * A guest that wants transmitter interrupts has its exits too: it waits for one after every few bytes.
 */
import { IER } from '../../chips/uart.regs.ts';
import { UART_WORD, uartWrite } from '../../chips/uart.ts';
import {
  isCoalescedEmpty,
  portZone,
  startCoalescing,
  stopCoalescing,
  takeCoalesced,
  type CoalescedRing,
} from '../../kvm/coalesced.ts';
import { PORT } from '../../machine/ports.ts';
import type { Board } from '../bus/board.ts';
import { isConsoleFull } from './ring.ts';
import { lockBus, tryLockBus, unlockBus, VM_WORD, type SharedState } from '../bus/shared-state.ts';

const LOOK_MS = 4;
/** Without output for so long the guest gets its exits back. */
const QUIET_MS = 50;
/** How long a guest that turned to transmitter interrupts is left alone: drivers turn them on and off. */
const LEFT_ALONE_MS = 1000;
const DATA_ZONE = portZone(PORT.com1);

/** On a vCPU's thread, before it acts on an exit: hands what KVM has gathered to the UART, in order. */
export function flushCoalesced(board: Board): void {
  const { ring, shared } = board;
  if (ring === undefined || isCoalescedEmpty(ring)) return;
  lockBus(shared.words);
  try {
    // When the VM is ending nobody waits for room: what is in the ring stays there until there is some.
    while (!(isEnding(shared) && isConsoleFull(shared)) && takeOne(board, ring));
  } finally {
    unlockBus(shared.words);
  }
}

/**
 * On the main thread, which may not wait, because whoever holds the bus may be waiting for it to read the console:
 * hands over what there is room for. What is left is for the next time, or for the vCPU that has the bus.
 */
export function flushWithoutWaiting(board: Board): void {
  const { ring, shared } = board;
  if (ring === undefined || isCoalescedEmpty(ring) || !tryLockBus(shared.words)) return;
  try {
    while (!isConsoleFull(shared) && takeOne(board, ring));
  } finally {
    unlockBus(shared.words);
  }
}

function isEnding({ words }: SharedState): boolean {
  return Atomics.load(words, VM_WORD.ending) !== 0;
}

function takeOne({ uart }: Board, ring: CoalescedRing): boolean {
  const write = takeCoalesced(ring);
  if (write < 0) return false;
  uartWrite(uart, (write >>> 8) - PORT.com1, write & 0xff);
  return true;
}

/** Looks after the ring on the main thread. Resolves when `isOver`; VM_WORD.burst is to be notified then. */
export async function watchConsole(board: Board, vmFd: number, isOver: () => boolean): Promise<void> {
  const { ring, shared } = board;
  if (ring === undefined) return;
  const { words, uart } = shared;
  let leftAloneUntil = 0;
  for (;;) {
    const wait = Atomics.waitAsync(words, VM_WORD.burst, 0);
    if (wait.async) await wait.value;
    if (isOver()) return;
    if (performance.now() >= leftAloneUntil && !wantsInterrupts(uart)) {
      if (!startCoalescing(vmFd, DATA_ZONE)) return;
      const why = await untilQuiet(board, isOver);
      if (isOver()) return;
      stopCoalescing(vmFd, DATA_ZONE);
      if (why === 'interrupts') leftAloneUntil = performance.now() + LEFT_ALONE_MS;
    }
    Atomics.store(words, VM_WORD.burst, 0);
    // What came before the stop, and had no room on the console or no bus so far.
    for (flushWithoutWaiting(board); !isCoalescedEmpty(ring); flushWithoutWaiting(board)) {
      await Bun.sleep(LOOK_MS);
      if (isOver()) return;
    }
  }
}

/** Empties the ring again and again until there is a reason to gather no more. */
async function untilQuiet(board: Board, isOver: () => boolean): Promise<'quiet' | 'interrupts'> {
  const { words, uart } = board.shared;
  let printed = words[VM_WORD.transmitHead];
  let lastChange = performance.now();
  for (;;) {
    await Bun.sleep(LOOK_MS);
    // The ring is not there any more once the machine has been disposed of.
    if (isOver()) return 'quiet';
    if (wantsInterrupts(uart)) return 'interrupts';
    // While vCPUs empty the ring, because it is full or for their exits, the bus is left to them.
    if (words[VM_WORD.transmitHead] === printed) flushWithoutWaiting(board);
    const now = performance.now();
    if (words[VM_WORD.transmitHead] !== printed) lastChange = now;
    else if (now - lastChange >= QUIET_MS) return 'quiet';
    printed = words[VM_WORD.transmitHead];
  }
}

function wantsInterrupts(uart: Int32Array): boolean {
  return (uart[UART_WORD.interruptEnable]! & IER.transmitterEmptyBit) !== 0;
}
