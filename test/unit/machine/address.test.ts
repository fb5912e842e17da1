import { expect, test } from 'bun:test';
import { alignDown, alignUp, guestAddress, offsetAddress } from '../../../src/machine/address.ts';

test.each([0, 0xfee0_0000, 2 ** 52 - 1])('%p is a guest address', (value) => {
  expect(guestAddress(value) as number).toBe(value);
});

test.each([-1, 0.5, 2 ** 52, NaN, Infinity])('%p is none', (value) => {
  expect(() => guestAddress(value)).toThrow(RangeError);
});

test('an offset that leaves the address space is refused', () => {
  expect(() => offsetAddress(guestAddress(2 ** 52 - 1), 1)).toThrow(RangeError);
  expect(() => offsetAddress(guestAddress(0), -1)).toThrow(RangeError);
});

test('alignment works beyond 32 bits', () => {
  expect(alignDown(0x1_2345_6789, 4096)).toBe(0x1_2345_6000);
  expect(alignUp(0x1_2345_6001, 4096)).toBe(0x1_2345_7000);
  expect(alignUp(0x1_2345_6000, 4096)).toBe(0x1_2345_6000);
});
