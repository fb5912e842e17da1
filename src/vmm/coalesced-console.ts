/**
 * Console output without an exit for each byte. A guest that prints fast has its writes to the UART's data register
 * gathered by KVM; each exit of any vCPU empties the ring before it is looked at, so that the order stays, and the
 * main thread looks every few milliseconds, so that nothing lies about. A guest that stops printing gets its exits
 * back, and costs the main thread nothing.
 *
 * A guest that wants transmitter interrupts is left alone: for it each byte must be seen at once.
 */
import { UART_WORD } from '../devices/uart.ts';
import { IER, LCR, MCR, UART_REGISTER } from '../devices/uart.regs.ts';
import { COALESCED_RING } from '../kvm/abi.ts';
import {
  dropOldestEntry,
  oldestEntry,
  portZone,
  startCoalescing,
  stopCoalescing,
  type CoalescedRing,
} from '../kvm/coalesced.ts';
import { COM1_PORTS, PORT } from '../machine/ports.ts';
import { uartWrite } from '../devices/uart.ts';
import type { Board } from './board.ts';
import { isConsoleFull } from './console-ring.ts';
import { lockBus, tryLockBus, unlockBus, VM_WORD } from './shared-state.ts';

/** So many bytes within so long are printing fast. */
const BURST_BYTES = 64;
const BURST_MS = 20;
const LOOK_MS = 2;
/** So many looks that find nothing end it. */
const QUIET_LOOKS = 8;
const DATA_ZONE = portZone(PORT.com1);

export interface Coalescing {
  readonly vmFd: number;
  /** undefined: this KVM has no coalesced PIO. */
  readonly ring: CoalescedRing | undefined;
  /** Bytes printed since `burstStart`, in performance.now(). */
  burst: number;
  burstStart: number;
}

/** After a write to a UART register that left the guest. The caller holds the bus lock. */
export function noteUartWrite({ shared, coalescing }: Board, register: number): void {
  const { words, uart } = shared;
  if (register === UART_REGISTER.data) {
    if (Atomics.load(words, VM_WORD.coalescing) === 0 && isBurst(coalescing))
      start(shared.words, uart, coalescing);
  } else if (register === UART_REGISTER.interruptEnable && Atomics.load(words, VM_WORD.coalescing) !== 0) {
    if (uart[UART_WORD.interruptEnable]! & IER.transmitterEmptyBit) stop(words, coalescing);
  }
}

/** Hands everything that KVM has gathered to the UART, on a vCPU's thread. The caller does not hold the bus lock. */
export function takeCoalesced(board: Board): void {
  const { ring } = board.coalescing;
  if (ring === undefined || oldestEntry(ring) === 0) return;
  const { words } = board.shared;
  lockBus(words);
  for (let entry = oldestEntry(ring); entry !== 0; entry = oldestEntry(ring)) takeEntry(board, ring, entry);
  unlockBus(words);
}

/** Looks after the ring from the main thread while writes are gathered. Resolves when `hasEnded` says so. */
export async function watchCoalesced(board: Board, hasEnded: () => boolean): Promise<void> {
  const { ring } = board.coalescing;
  const { words } = board.shared;
  if (ring === undefined) return;
  for (let quiet = 0; !hasEnded();) {
    // Entries may be left when the console had no room for them.
    if (Atomics.load(words, VM_WORD.coalescing) === 0 && oldestEntry(ring) === 0) {
      quiet = 0;
      const wait = Atomics.waitAsync(words, VM_WORD.coalescing, 0);
      if (wait.async) await wait.value;
      continue;
    }
    await Bun.sleep(LOOK_MS);
    // The ring is unmapped once the machine is disposed of.
    if (hasEnded()) return;
    const taken = lookAtRing(board, ring, quiet >= QUIET_LOOKS);
    quiet = taken ? 0 : quiet + 1;
  }
}

/**
 * Empties the ring as far as the console has room, and ends the gathering if that is wanted and there was nothing.
 * Never waits: whoever holds the lock may be waiting for this very thread. True when there was something.
 */
function lookAtRing(board: Board, ring: CoalescedRing, ends: boolean): boolean {
  const { shared, coalescing } = board;
  if (!tryLockBus(shared.words)) return true;
  try {
    const before = shared.words[VM_WORD.transmitHead]!;
    const waiting = oldestEntry(ring) !== 0;
    if (ends && !waiting && shared.words[VM_WORD.coalescing] !== 0) stop(shared.words, coalescing);
    for (let entry = oldestEntry(ring); entry !== 0 && !isConsoleFull(shared); entry = oldestEntry(ring)) {
      takeEntry(board, ring, entry);
    }
    return waiting || shared.words[VM_WORD.transmitHead] !== before;
  } finally {
    unlockBus(shared.words);
  }
}

function takeEntry(board: Board, ring: CoalescedRing, entry: number): void {
  const port = ring.words[(entry + COALESCED_RING.entryAddress) / 4]!;
  const value = ring.bytes[entry + COALESCED_RING.entryData]!;
  dropOldestEntry(ring);
  if (port >= PORT.com1 && port < PORT.com1 + COM1_PORTS) uartWrite(board.uart, port - PORT.com1, value);
}

function isBurst(coalescing: Coalescing): boolean {
  if (coalescing.ring === undefined) return false;
  if (coalescing.burst === 0) coalescing.burstStart = performance.now();
  if (++coalescing.burst < BURST_BYTES) return false;
  coalescing.burst = 0;
  return performance.now() - coalescing.burstStart < BURST_MS;
}

function start(words: Int32Array, uart: Int32Array, { vmFd }: Coalescing): void {
  const plain =
    !(uart[UART_WORD.interruptEnable]! & IER.transmitterEmptyBit) &&
    !(uart[UART_WORD.lineControl]! & LCR.divisorLatchBit) &&
    !(uart[UART_WORD.modemControl]! & MCR.loopbackBit);
  if (!plain || !startCoalescing(vmFd, DATA_ZONE)) return;
  Atomics.store(words, VM_WORD.coalescing, 1);
  Atomics.notify(words, VM_WORD.coalescing);
}

function stop(words: Int32Array, { vmFd }: Coalescing): void {
  stopCoalescing(vmFd, DATA_ZONE);
  Atomics.store(words, VM_WORD.coalescing, 0);
}
