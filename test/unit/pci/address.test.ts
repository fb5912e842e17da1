import { expect, test } from 'bun:test';
import {
  nameOfSlot,
  offsetOfConfigAddress,
  slotOfConfigAddress,
  slotOfEcam,
} from '../../../src/pci/address.ts';

test('ECAM: bus, device and function follow from the offset', () => {
  expect([0, 0x8000, 0xf8000, 0x108000].map(slotOfEcam)).toEqual([0, 1, 31, 33]);
});

test('ECAM: functions other than 0 are no device', () => {
  expect([0x1000, 0xf000].map(slotOfEcam)).toEqual([-1, -1]);
});

test('mechanism #1: bus and device follow from CONFIG_ADDRESS', () => {
  expect([0x8000_0000, 0x8000_0804, 0x8001_f8fc].map(slotOfConfigAddress)).toEqual([0, 1, 63]);
});

test('mechanism #1: nothing is selected without the enable bit, and by other functions', () => {
  expect([0x0000_0800, 0x8000_0100].map(slotOfConfigAddress)).toEqual([-1, -1]);
});

test('mechanism #1: the register number is of a double word, the port of a byte in it', () => {
  expect([offsetOfConfigAddress(0x8000_0810, 0), offsetOfConfigAddress(0x8000_083d, 1)]).toEqual([
    0x10, 0x3d,
  ]);
});

test('slots are named as lspci does', () => {
  expect([0, 31, 33].map(nameOfSlot)).toEqual(['00:00.0', '00:1f.0', '01:01.0']);
});
