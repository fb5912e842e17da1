/** The ring of gathered writes, filled as KVM fills it. */
import { expect, test } from 'bun:test';
import { COALESCED_RING } from '../../../src/kvm/abi.ts';
import {
  COALESCED_ENTRIES,
  isCoalescedEmpty,
  portZone,
  takeCoalescedWrite,
  viewCoalescedRing,
  type CoalescedRing,
} from '../../../src/kvm/coalesced.ts';
import { voltErrorOf } from '../support/errors.ts';
import { seededRandom } from '../support/random.ts';

const FIRST = COALESCED_RING.first / 4;
const LAST = COALESCED_RING.last / 4;

function ringAt(start: number): CoalescedRing {
  const ring = viewCoalescedRing(new ArrayBuffer(3 * 4096), 2 * 4096)!;
  ring[FIRST] = start;
  ring[LAST] = start;
  return ring;
}

/** What KVM does with a write; false when it would leave the guest instead. (virt/kvm/coalesced_mmio.c) */
function gather(ring: CoalescedRing, port: number, byte: number): boolean {
  const last = ring[LAST]!;
  const next = (last + 1) % COALESCED_ENTRIES;
  if (next === ring[FIRST]) return false;
  // What is behind the byte is left from before.
  ring.set([port, 0, 1, 1, 0x5555_5500 | byte, 0x5555_5555], (COALESCED_RING.entries + 24 * last) / 4);
  ring[LAST] = next;
  return true;
}

test('a KVM without it has no ring', () => {
  expect(viewCoalescedRing(new ArrayBuffer(3 * 4096), 0)).toBeUndefined();
});

test('a page holds 170 entries', () => {
  expect(COALESCED_ENTRIES).toBe(170);
});

test('an empty ring has nothing, wherever its indices stand', () => {
  for (const start of [0, 1, 100, 169]) {
    expect(isCoalescedEmpty(ringAt(start))).toBe(true);
    expect(takeCoalescedWrite(ringAt(start))).toBe(-1);
  }
});

test('writes come out in order, with their ports', () => {
  const ring = ringAt(0);
  gather(ring, 0x3f8, 0x41);
  gather(ring, 0xffff, 0xff);

  const taken = [takeCoalescedWrite(ring), takeCoalescedWrite(ring), takeCoalescedWrite(ring)];

  expect(taken).toEqual([0x3f8_41, 0xffff_ff, -1]);
  expect(isCoalescedEmpty(ring)).toBe(true);
});

test('a full ring is one entry short, and is emptied across its end', () => {
  const ring = ringAt(169);
  let count = 0;
  while (gather(ring, 0x3f8, count & 0xff)) count++;

  const bytes = Array.from({ length: count }, () => takeCoalescedWrite(ring) & 0xff);

  expect(count).toBe(169);
  expect(bytes).toEqual(Array.from({ length: 169 }, (_, i) => i));
  expect(takeCoalescedWrite(ring)).toBe(-1);
});

test('whatever the order of writes and reads, nothing is lost or repeated', () => {
  const random = seededRandom(31);
  const ring = ringAt(150);
  const sent: number[] = [];
  const received: number[] = [];
  for (let i = 0; i < 500; i++) {
    for (const byte of random.bytes(random.int(0, 100))) if (gather(ring, 0x3f8, byte)) sent.push(byte);
    for (let left = random.int(0, 100); left > 0 && !isCoalescedEmpty(ring); left--)
      received.push(takeCoalescedWrite(ring) & 0xff);
  }
  for (let write = takeCoalescedWrite(ring); write >= 0; write = takeCoalescedWrite(ring))
    received.push(write & 0xff);

  expect(received).toEqual(sent);
  expect(sent.length).toBeGreaterThan(10_000);
});

test.each([
  [170, 0],
  [0, 170],
  [-1, 3],
  [3, 0x7fff_ffff],
])('indices from %p to %p are refused, and nothing is read', (first, last) => {
  const ring = ringAt(0);
  ring[FIRST] = first;
  ring[LAST] = last;

  const { code, message } = voltErrorOf(() => takeCoalescedWrite(ring));

  expect(code).toBe('internal');
  expect(message).toBe(
    `Cannot read KVM's coalesced ring: first ${first >>> 0}, last ${last >>> 0} (expected less than 170)`,
  );
  expect(ring[FIRST]).toBe(first);
});

test('a zone is one port', () => {
  expect(Buffer.from(portZone(0x3f8)).toString('hex')).toBe('f8030000000000000100000001000000');
});
