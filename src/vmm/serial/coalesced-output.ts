/**
 * Console output without an exit for each byte, while a guest prints fast.
 *
 * KVM then coalesces writes to THR in a ring. A vCPU that exits empties the ring before it handles its exit,
 * so that the order is kept, and the main thread empties it every few milliseconds. A guest that prints
 * little exits for each byte, which costs the main thread nothing; so does one with THRE interrupts enabled,
 * which waits for one after a few bytes.
 */
import { IER } from '../../chips/uart.regs.ts';
import { UART_WORD, uartWrite } from '../../chips/uart.ts';
import {
  isCoalescedEmpty,
  portZone,
  registerCoalescedZone,
  unregisterCoalescedZone,
  takeCoalescedWrite,
  type CoalescedRing,
} from '../../kvm/coalesced.ts';
import { PORT } from '../../machine/ports.ts';
import type { Board } from '../bus/board.ts';
import { isConsoleFull } from './ring.ts';
import { lockBus, tryLockBus, unlockBus, VM_WORD, type SharedState } from '../bus/shared-state.ts';

/** How often the main thread empties the ring. */
const POLL_MS = 4;
/** Without output for so long, KVM coalesces no more. */
const QUIET_MS = 50;
/** Pause after a guest enabled THRE interrupts: drivers enable and disable them all the time. */
const INTERRUPT_PAUSE_MS = 1000;
const DATA_ZONE = portZone(PORT.com1);

/** On a vCPU's thread, before it handles an exit: passes coalesced writes to the UART, in order. */
export function flushCoalesced(board: Board): void {
  const { ring, shared } = board;
  if (ring === undefined || isCoalescedEmpty(ring)) return;
  lockBus(shared.words);
  try {
    // Once the VM is ending no thread waits for room: what is left stays in the ring.
    while (!(isEnding(shared) && isConsoleFull(shared)) && takeOne(board, ring));
  } finally {
    unlockBus(shared.words);
  }
}

/**
 * On the main thread, which may not wait, because the holder of the bus lock may be waiting for it to read
 * the console: passes as many writes as there is room for. The rest stays for the next call, or for the vCPU
 * that has the lock.
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
  const write = takeCoalescedWrite(ring);
  if (write < 0) return false;
  uartWrite(uart, (write >>> 8) - PORT.com1, write & 0xff);
  return true;
}

/** Starts and stops coalescing, on the main thread. Resolves when `isOver`; notify VM_WORD.burst then. */
export async function watchConsole(board: Board, vmFd: number, isOver: () => boolean): Promise<void> {
  const { ring, shared } = board;
  if (ring === undefined) return;
  const { words, uart } = shared;
  let pausedUntil = 0;
  for (;;) {
    const wait = Atomics.waitAsync(words, VM_WORD.burst, 0);
    if (wait.async) await wait.value;
    if (isOver()) return;
    if (performance.now() >= pausedUntil && !wantsInterrupts(uart)) {
      if (!registerCoalescedZone(vmFd, DATA_ZONE)) return;
      const reason = await untilQuiet(board, isOver);
      if (isOver()) return;
      unregisterCoalescedZone(vmFd, DATA_ZONE);
      if (reason === 'interrupts') pausedUntil = performance.now() + INTERRUPT_PAUSE_MS;
    }
    Atomics.store(words, VM_WORD.burst, 0);
    // Writes from before the stop for which there was no room on the console so far, or no bus lock.
    for (flushWithoutWaiting(board); !isCoalescedEmpty(ring); flushWithoutWaiting(board)) {
      await Bun.sleep(POLL_MS);
      if (isOver()) return;
    }
  }
}

/** Empties the ring periodically until there is a reason to coalesce no more. */
async function untilQuiet(board: Board, isOver: () => boolean): Promise<'quiet' | 'interrupts'> {
  const { words, uart } = board.shared;
  let printed = words[VM_WORD.transmitHead];
  let lastChange = performance.now();
  for (;;) {
    await Bun.sleep(POLL_MS);
    // The ring is unmapped once the machine has been disposed of.
    if (isOver()) return 'quiet';
    if (wantsInterrupts(uart)) return 'interrupts';
    // While vCPUs empty the ring, because it is full or for their exits, the lock is left to them.
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
