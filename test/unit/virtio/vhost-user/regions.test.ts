/** The regions that a back-end shares with Volt besides RAM. */
import { describe, expect, test } from 'bun:test';
import {
  emptyInflight,
  headsInFlight,
  inflightQueueBytes,
} from '../../../../src/virtio/vhost-user/inflight.ts';
import { forEachLoggedRun, writeLogBytes } from '../../../../src/virtio/vhost-user/write-log.ts';

const QUEUE_SIZE = 16;
const ENTRY = 16;

/** A queue's part with these heads in flight, `last` being the head of the last batch. */
function part(heads: readonly number[], usedIndex: number, last: number): Uint8Array {
  const bytes = emptyInflight(QUEUE_SIZE, [usedIndex]);
  new DataView(bytes.buffer).setUint16(12, last, true);
  for (const head of heads) bytes[16 + head * ENTRY] = 1;
  return bytes;
}

describe('the inflight region', () => {
  test('has a header, an entry per descriptor and an alignment for each queue', () => {
    expect([inflightQueueBytes(256), inflightQueueBytes(16)]).toEqual([4160, 320]);
    expect(emptyInflight(16, [1, undefined, 3])).toHaveLength(960);
  });

  test('names the heads that are in flight', () => {
    expect(headsInFlight(part([0, 3, 15], 7, 9), QUEUE_SIZE, 7)).toEqual([0, 3, 15]);
  });

  test('names no head that was used before the back-end could note it', () => {
    expect(headsInFlight(part([0, 3, 15], 7, 3), QUEUE_SIZE, 8)).toEqual([0, 15]);
  });
});

describe('the log of written pages', () => {
  test.each([
    [[], []],
    [[0b0000_0110], [[0x1000, 0x2000]]],
    [[0b1000_0000, 0b0000_0001], [[0x7000, 0x2000]]],
    [
      [0b1000_0001, 0, 0xff],
      [
        [0, 0x1000],
        [0x7000, 0x1000],
        [0x1_0000, 0x8000],
      ],
    ],
  ] as const)('%p is %p', (bits, expected) => {
    const runs: (readonly [number, number])[] = [];

    forEachLoggedRun(Uint8Array.from(bits), (address, bytes) => runs.push([address, bytes]));

    expect(runs).toEqual([...expected] as never);
  });

  test('has a bit for each page', () => {
    expect([writeLogBytes(0x8000), writeLogBytes(0x9000)]).toEqual([1, 2]);
  });
});
