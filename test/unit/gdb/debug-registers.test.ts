/** DR7 as the manual draws it, and which ranges debug registers can watch. (SDM 3B §17.2.4, §17.2.5) */
import { expect, test } from 'bun:test';
import { encodeDebugRegisters, splitRange, stopOf } from '../../../src/gdb/debug-registers.ts';

test('each stop enables its register globally, with condition and length', () => {
  const stops = [
    { type: 'hardware', address: 0x1000n, bytes: 1 },
    { type: 'write', address: 0x2000n, bytes: 4 },
    { type: 'access', address: 0x3000n, bytes: 8 },
    { type: 'read', address: 0x4002n, bytes: 2 },
  ] as const;

  const { addresses, dr7 } = encodeDebugRegisters(stops);

  expect(addresses).toEqual([0x1000n, 0x2000n, 0x3000n, 0x4002n]);
  expect(dr7.toString(16)).toBe('7bd006aa');
});

test('no stop leaves only the bits that are always set', () => {
  expect(encodeDebugRegisters([]).dr7).toBe(0x600n);
});

test.each([
  [0x1000n, 8, [[0x1000n, 8]]],
  [
    0x1001n,
    8,
    [
      [0x1001n, 1],
      [0x1002n, 2],
      [0x1004n, 4],
      [0x1008n, 1],
    ],
  ],
  [
    0x1004n,
    12,
    [
      [0x1004n, 4],
      [0x1008n, 8],
    ],
  ],
  [0x1000n, 0, []],
] as const)('%p with %p bytes is watched in aligned pieces', (address, bytes, pieces) => {
  expect(splitRange(address, bytes)).toEqual(pieces.map(([at, size]) => ({ address: at, bytes: size })));
});

test('DR6 names the stop, or none', () => {
  const stops = [
    { type: 'write', address: 1n, bytes: 1 },
    { type: 'write', address: 2n, bytes: 1 },
  ] as const;

  expect(stopOf(0xffff_0ff2n, stops)).toBe(stops[1]);
  expect(stopOf(0xffff_4ff0n, stops)).toBeUndefined();
  expect(stopOf(0xffff_0ff8n, stops)).toBeUndefined();
});
