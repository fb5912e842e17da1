/** What KVM has gathered on its way to the UART, with the ring in this process's memory. */
import { expect, test } from 'bun:test';
import { resetUart, UART_WORD } from '../../../../src/chips/uart.ts';
import { COALESCED_RING } from '../../../../src/kvm/abi.ts';
import { viewCoalescedRing, type CoalescedRing } from '../../../../src/kvm/coalesced.ts';
import { writePort, type Board } from '../../../../src/vmm/bus/board.ts';
import {
  flushCoalesced,
  flushWithoutWaiting,
  watchConsole,
} from '../../../../src/vmm/serial/coalesced-output.ts';
import { peekConsole, pushConsoleByte } from '../../../../src/vmm/serial/ring.ts';
import { createSharedState, lockBus, tryLockBus, unlockBus } from '../../../../src/vmm/bus/shared-state.ts';

const DATA = 0x3f8;
const LINE_CONTROL = 0x3fb;
const LAST = COALESCED_RING.last / 4;

function createTestBoard(ring: CoalescedRing | undefined) {
  const shared = createSharedState(1);
  resetUart(shared.uart);
  const levels: number[] = [];
  const outputs = {
    transmit: (byte: number) => pushConsoleByte(shared, byte),
    setInterrupt: (level: number) => void levels.push(level),
  };
  const uart = { words: shared.uart, received: shared.received, outputs };
  const board: Board = {
    shared,
    uart,
    lowMemoryBytes: 0,
    virtio: [],
    bootCpu: 0,
    ring,
    startPit: () => {},
    exitStatus: 0,
  };
  const printed = () => Buffer.from(peekConsole(shared, 1 << 20)).toString('latin1');
  return { board, shared, printed, levels };
}

function createRing() {
  const ring = viewCoalescedRing(new ArrayBuffer(2 * 4096), 4096)!;
  const gather = (text: string) => {
    for (const byte of Buffer.from(text)) {
      ring.set([DATA, 0, 1, 1, byte, 0], (COALESCED_RING.entries + 24 * ring[LAST]!) / 4);
      ring[LAST] = ring[LAST]! + 1;
    }
  };
  return { ring, gather };
}

test('it is printed before what the vCPU left the guest for', () => {
  const { ring, gather } = createRing();
  const { board, printed } = createTestBoard(ring);
  gather('gathered, ');

  flushCoalesced(board);
  writePort(board, DATA, 1, 0x78);

  expect(printed()).toBe('gathered, x');
});

test('bytes of the divisor are not printed, whichever side of a line control write they are on', () => {
  const { ring, gather } = createRing();
  const { board, shared, printed } = createTestBoard(ring);
  gather('a');
  flushCoalesced(board);
  writePort(board, LINE_CONTROL, 1, 0x80);
  gather('\x0c');
  flushCoalesced(board);
  writePort(board, LINE_CONTROL, 1, 0x03);
  gather('b');
  flushCoalesced(board);

  expect(printed()).toBe('ab');
  expect(shared.uart[UART_WORD.divisorLow]).toBe(0x0c);
});

test('it raises the transmitter interrupt as any byte does', () => {
  const { ring, gather } = createRing();
  const { board, levels } = createTestBoard(ring);
  writePort(board, DATA + 1, 1, 0x02);
  board.uart.words[UART_WORD.threInterrupt] = 0;
  writePort(board, DATA + 7, 1, 0);
  const before = [...levels];
  gather('x');

  flushWithoutWaiting(board);

  expect(before).toEqual([1, 0]);
  expect(levels).toEqual([1, 0, 1]);
});

test('the main thread leaves it alone while a vCPU has the bus', () => {
  const { ring, gather } = createRing();
  const { board, shared, printed } = createTestBoard(ring);
  gather('x');

  lockBus(shared.words);
  flushWithoutWaiting(board);
  const before = printed();
  unlockBus(shared.words);
  flushWithoutWaiting(board);

  expect([before, printed()]).toEqual(['', 'x']);
  expect(tryLockBus(shared.words)).toBe(true);
});

test('the main thread hands over what the console has room for, and keeps the rest', () => {
  const { ring, gather } = createRing();
  const { board, shared, printed } = createTestBoard(ring);
  for (let i = 0; i < shared.transmitted.length - 2; i++) pushConsoleByte(shared, 0x2e);
  gather('abcd');

  flushWithoutWaiting(board);

  expect(printed().slice(-3)).toBe('.ab');
  expect(ring[LAST]! - ring[0]!).toBe(2);
});

test('without a ring nobody looks after one', async () => {
  const { board } = createTestBoard(undefined);
  flushCoalesced(board);
  flushWithoutWaiting(board);

  expect(await watchConsole(board, -1, () => false)).toBeUndefined();
});
