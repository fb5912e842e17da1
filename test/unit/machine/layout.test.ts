import { expect, test } from 'bun:test';
import { buildE820, E820_TYPE } from '../../../src/boot/e820.ts';
import { GIB, MIB, PAGE_BYTES } from '../../../src/machine/address.ts';
import { EBDA_END, EBDA_START, LAYOUT, ramRanges, type LayoutRow } from '../../../src/machine/layout.ts';

const ROWS: readonly LayoutRow[] = Object.values(LAYOUT);

test('rows ascend and none overlaps the next', () => {
  const overlaps = ROWS.slice(1).filter((row, i) => ROWS[i]!.address + ROWS[i]!.bytes > row.address);
  expect(overlaps).toEqual([]);
});

test('every row has a reason', () => {
  expect(ROWS.filter((row) => row.reason === '')).toEqual([]);
});

test('the MP tables lie where the seed has them, in the last KiB of base memory', () => {
  expect(LAYOUT.mpFloatingPointer.address as number).toBe(0x9_fc00);
  expect(LAYOUT.mpConfigTable.address as number).toBe(0x9_fc10);
  expect(LAYOUT.mpConfigTable.address + LAYOUT.mpConfigTable.bytes).toBe(EBDA_END);
  expect(EBDA_END - EBDA_START).toBe(1024);
});

test('tables that the processor walks are page-aligned', () => {
  expect(LAYOUT.pageTables.address % PAGE_BYTES).toBe(0);
  expect(LAYOUT.identityMap.address % PAGE_BYTES).toBe(0);
  expect(LAYOUT.tss.address % PAGE_BYTES).toBe(0);
});

test.each([
  [32 * MIB, [[0, 32 * MIB]]],
  [3 * GIB, [[0, 3 * GIB]]],
  [3 * GIB + MIB, [[0, 3 * GIB], [4 * GIB, MIB]]], // prettier-ignore
  [16 * GIB, [[0, 3 * GIB], [4 * GIB, 13 * GIB]]], // prettier-ignore
])('%p bytes of RAM leave the MMIO hole free', (memoryBytes, expected) => {
  const ranges = ramRanges(memoryBytes).map(({ address, bytes }) => [address as number, bytes]);
  expect(ranges).toEqual(expected as number[][]);
});

test('no fixed address of a device lies in RAM, whatever its size', () => {
  const devices = [LAYOUT.ioApic, LAYOUT.localApic, LAYOUT.identityMap, LAYOUT.tss];
  const inRam = ramRanges(64 * GIB).flatMap((ram) =>
    devices.filter((row) => row.address < ram.address + ram.bytes && row.address + row.bytes > ram.address),
  );
  expect(inRam).toEqual([]);
});

test('the VM generation ID is aligned to 8 bytes, and no range of usable memory has it', () => {
  const { address, bytes } = LAYOUT.vmGenerationId;
  const usable = buildE820(ramRanges(64 * GIB)).filter(({ type }) => type === E820_TYPE.ram);
  expect(address % 8).toBe(0);
  expect(bytes).toBe(16);
  expect(usable.filter((ram) => ram.address < address + bytes && ram.address + ram.bytes > address)).toEqual(
    [],
  );
});
