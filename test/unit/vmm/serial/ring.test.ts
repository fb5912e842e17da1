import { expect, test } from 'bun:test';
import { dropConsole, peekConsole, pushConsoleByte } from '../../../../src/vmm/serial/ring.ts';
import {
  createSharedState,
  VM_MOMENT,
  VM_WORD,
  type SharedState,
} from '../../../../src/vmm/bus/shared-state.ts';
import { seededRandom } from '../../support/random.ts';

/** A ring whose counters already stand at `start`. */
function ringAt(start: number): SharedState {
  const shared = createSharedState(1);
  shared.words[VM_WORD.transmitHead] = start;
  shared.words[VM_WORD.transmitTail] = start;
  return shared;
}

function push(shared: SharedState, bytes: Iterable<number>): void {
  for (const byte of bytes) pushConsoleByte(shared, byte);
}

/** Everything that waits, piece by piece. */
function takeAll(shared: SharedState, limit = 4096): number[] {
  const taken: number[] = [];
  for (let piece = peekConsole(shared, limit); piece.length > 0; piece = peekConsole(shared, limit)) {
    taken.push(...piece);
    dropConsole(shared, piece.length);
  }
  return taken;
}

const RING_BYTES = createSharedState(1).transmitted.length;

test('an empty ring has nothing', () => {
  expect(peekConsole(ringAt(0), 100).length).toBe(0);
});

test('bytes come out in order, and stay until they are dropped', () => {
  const shared = ringAt(0);
  push(shared, [1, 2, 3]);
  expect([...peekConsole(shared, 2)]).toEqual([1, 2]);
  expect([...peekConsole(shared, 100)]).toEqual([1, 2, 3]);
  dropConsole(shared, 2);
  expect([...peekConsole(shared, 100)]).toEqual([3]);
});

test('what wraps around comes in two pieces', () => {
  const shared = ringAt(RING_BYTES - 2);
  push(shared, [1, 2, 3, 4]);
  expect([...peekConsole(shared, 100)]).toEqual([1, 2]);
  dropConsole(shared, 2);
  expect([...peekConsole(shared, 100)]).toEqual([3, 4]);
});

test('it goes on where the counters pass 2^31', () => {
  const shared = ringAt(0x7fff_fffd);
  push(shared, [1, 2, 3, 4, 5]);
  expect(takeAll(shared)).toEqual([1, 2, 3, 4, 5]);
  expect(shared.words[VM_WORD.transmitTail]).toBe(-0x7fff_fffe);
});

test('it holds all of its bytes', () => {
  const shared = ringAt(5);
  const bytes = seededRandom(17).bytes(RING_BYTES);
  push(shared, bytes);
  expect(takeAll(shared)).toEqual([...bytes]);
});

test('a byte for a full ring is dropped once the VM is ending, and nothing else is', () => {
  const shared = ringAt(0);
  push(shared, new Uint8Array(RING_BYTES).fill(7));
  Atomics.store(shared.words, VM_WORD.ending, 1);
  pushConsoleByte(shared, 9);
  expect(new Set(takeAll(shared))).toEqual(new Set([7]));
});

test('a byte rings the doorbell, and the first one is noted', () => {
  const shared = ringAt(0);
  pushConsoleByte(shared, 1);
  const first = shared.moments[VM_MOMENT.firstConsoleByte];
  pushConsoleByte(shared, 2);
  expect(shared.words[VM_WORD.doorbell]).toBe(1);
  expect(first).toBeGreaterThan(0);
  expect(shared.moments[VM_MOMENT.firstConsoleByte]).toBe(first!);
});

test('whatever the pieces, nothing is lost or repeated', () => {
  const random = seededRandom(18);
  const shared = ringAt(RING_BYTES - 100);
  const sent: number[] = [];
  const received: number[] = [];
  for (let i = 0; i < 200; i++) {
    const bytes = random.bytes(random.int(0, 300));
    push(shared, bytes);
    sent.push(...bytes);
    const piece = peekConsole(shared, random.int(1, 400));
    received.push(...piece);
    dropConsole(shared, piece.length);
  }
  received.push(...takeAll(shared, 77));
  expect(received).toEqual(sent);
});
