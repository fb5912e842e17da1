import { describe, expect, test } from 'bun:test';
import { PCI_HOTPLUG as R } from '../../../src/machine/ports.ts';
import {
  clearEjected,
  clearEvents,
  ejectedSlot,
  isEjected,
  lastOst,
  noteEjected,
  noteInserted,
  PCI_HOTPLUG_WORDS,
  PCI_REQUEST,
  pciHotplugRead,
  pciHotplugWrite,
  requestRemoval,
} from '../../../src/pci/hotplug.ts';

function registers() {
  const words = new Int32Array(PCI_HOTPLUG_WORDS);
  return {
    words,
    read: (offset: number) => pciHotplugRead(words, offset),
    write: (offset: number, value: number) => pciHotplugWrite(words, offset, value),
  };
}

describe('events of PCI slots', () => {
  test('are read once, by bus, a bit for each device', () => {
    const { words, read, write } = registers();
    noteInserted(words, 5);
    noteInserted(words, 31);
    noteInserted(words, 32);
    const first = [read(R.inserted), read(R.inserted)];
    write(R.bus, 1);
    expect([...first, read(R.inserted)]).toEqual([0x8000_0020, 0, 1]);
  });

  test('can be taken back before they are read', () => {
    const { words, read } = registers();
    noteInserted(words, 5);
    requestRemoval(words, 5);
    requestRemoval(words, 6);
    clearEvents(words, 5);
    expect([read(R.inserted), read(R.removing)]).toEqual([0, 0x40]);
  });
});

describe('answers about PCI slots', () => {
  test('an eject names the slot by the selected bus and the number of the device', () => {
    const { words, write } = registers();
    write(R.bus, 1);
    const request = write(R.eject, 3);
    noteEjected(words, ejectedSlot(words));
    const ejected = isEjected(words, 35);
    clearEjected(words, 35);
    expect([request, ejected, isEjected(words, 35), isEjected(words, 3)]).toEqual([
      PCI_REQUEST.eject,
      true,
      false,
      false,
    ]);
  });

  test('_OST is counted with its status', () => {
    const { words, write } = registers();
    write(R.slot, 35);
    const request = write(R.status, 0x81);
    expect([request, lastOst(words, 35), lastOst(words, 3)]).toEqual([
      PCI_REQUEST.answer,
      { count: 1, status: 0x81 },
      { count: 0, status: 0 },
    ]);
  });

  test('slots, buses and devices that do not exist have no effect outside of the registers', () => {
    const { words, read, write } = registers();
    write(R.bus, 0xffff_ffff);
    write(R.slot, 64);
    expect([read(R.bus), read(R.slot), write(R.eject, 32)]).toEqual([0, 0, PCI_REQUEST.none]);
    expect(words.every((word) => word === 0)).toBe(true);
  });
});
