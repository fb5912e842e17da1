import { expect, test } from 'bun:test';
import { GuestRam } from '../../../../src/virtio/transport/guest-ram.ts';
import { createTestRam, HOST_BASE } from '../test-ram.ts';

const GIB = 2 ** 30;

test('tells host addresses of ranges that lie in one region, and 0 for all others', () => {
  const open = () => new Uint8Array();
  const ram = new GuestRam([
    { address: 0, bytes: 3 * GIB, host: HOST_BASE, open },
    { address: 4 * GIB, bytes: 2 * GIB, host: 2 * HOST_BASE, open },
  ]);

  expect(ram.hostAddress(0x1000, 0x1000)).toBe(HOST_BASE + 0x1000);
  expect(ram.hostAddress(4 * GIB, 2 * GIB)).toBe(2 * HOST_BASE);
  expect(ram.hostAddress(3 * GIB - 1, 2)).toBe(0);
  expect(ram.hostAddress(6 * GIB, 1)).toBe(0);
  expect(ram.hostAddress(2 ** 64, 1)).toBe(0);
  expect(ram.hostAddress(-1, 1)).toBe(0);
});

test('reaches across the GiB at which a new window begins', () => {
  const opened: [number, number][] = [];
  const pieces = new Map<number, Uint8Array>();
  const open = (offset: number, bytes: number) => {
    opened.push([offset, bytes]);
    // A window of 2 GiB would be a lot of test memory: its first bytes do.
    const piece = new Uint8Array(16);
    pieces.set(offset, piece);
    return piece;
  };
  const ram = new GuestRam([{ address: 4 * GIB, bytes: 3 * GIB, host: HOST_BASE, open }]);

  ram.storeU8(5 * GIB + 3, 0x55);
  ram.loadU32(6 * GIB);

  expect(opened).toEqual([
    [GIB, 2 * GIB],
    [2 * GIB, GIB],
  ]);
  expect(pieces.get(GIB)![3]).toBe(0x55);
});

test('copies small and large pieces, and nothing outside RAM', () => {
  const { ram, bytes } = createTestRam(0x1000);
  const source = Uint8Array.from({ length: 200 }, (_, i) => i);
  const target = new Uint8Array(200);

  const done = [ram.copyIn(0x100, source, 10, 20), ram.copyIn(0x200, source, 0, 200)];
  const back = [ram.copyOut(0x200, target, 0, 200), ram.copyOut(0x100, target, 50, 2)];
  const refused = [
    ram.copyIn(0xfff, source, 0, 2),
    ram.copyOut(0x1000, target, 0, 1),
    ram.storeU8(0x1000, 1),
  ];

  expect([...done, ...back]).toEqual([true, true, true, true]);
  expect(refused).toEqual([false, false, false]);
  expect([...bytes.subarray(0x100, 0x114)]).toEqual([...source.subarray(10, 30)]);
  expect(target[199]).toBe(199);
  expect([target[50], target[51]]).toEqual([10, 11]);
  expect(bytes[0xfff]).toBe(0);
});
