import { describe, expect, test } from 'bun:test';
import { resetI8042 } from '../../../../src/chips/i8042.ts';
import { resetUart } from '../../../../src/chips/uart.ts';
import { MIB } from '../../../../src/machine/address.ts';
import { BUS_EVENT, readPort, writePort, type Board } from '../../../../src/vmm/bus/board.ts';
import { buildMpTables } from '../../../../src/smp/mp-table.ts';
import { readFloatingPointer } from '../../../../src/smp/mp-table-read.ts';
import type { PitChange } from '../../../../src/machine/pit-change.ts';
import { createSharedState } from '../../../../src/vmm/bus/shared-state.ts';

function createTestBoard() {
  const shared = createSharedState(1);
  const sent: number[] = [];
  const pitStarts: (PitChange | undefined)[] = [];
  resetUart(shared.uart);
  resetI8042(shared.i8042);
  const board: Board = {
    shared,
    uart: {
      words: shared.uart,
      received: shared.received,
      outputs: { transmit: (byte) => sent.push(byte), setInterrupt: () => {} },
    },
    lowMemoryBytes: 64 * MIB,
    virtio: [],
    bootCpu: 0,
    ring: undefined,
    startPit: (change) => pitStarts.push(change),
    exitStatus: 0,
  };
  return { board, sent, pitStarts };
}

describe('ports', () => {
  test.each([0x00, 0x21, 0x92 + 1, 0x2f8, 0xcf8, 0xcfc, 0xffff])('nobody answers %p: all ones', (port) => {
    const { board } = createTestBoard();
    expect(readPort(board, port, 1)).toBe(0xff);
    expect(writePort(board, port, 1, 0)).toBe(BUS_EVENT.none);
  });

  test('nobody answers a probe of the PCI bus', () => {
    const { board } = createTestBoard();
    expect(writePort(board, 0xcf8, 4, 0x8000_0000)).toBe(BUS_EVENT.none);
    expect(readPort(board, 0xcf8, 4)).toBe(0xffff_ffff);
    expect(readPort(board, 0xcfc, 4)).toBe(0xffff_ffff);
  });

  test('of the serial port reach it', () => {
    const { board, sent } = createTestBoard();
    writePort(board, 0x3f8, 1, 0x41);
    writePort(board, 0x3ff, 1, 0x5a);
    expect(sent).toEqual([0x41]);
    expect([readPort(board, 0x3fd, 1), readPort(board, 0x3ff, 1)]).toEqual([0x60, 0x5a]);
  });

  test('of the text cursor take index and data in one word, as drivers write them', () => {
    const { board } = createTestBoard();
    writePort(board, 0x3d4, 2, 0x070e);
    writePort(board, 0x3d4, 2, 0xcf0f);
    const low = readPort(board, 0x3d5, 1);
    writePort(board, 0x3d4, 1, 0x0e);
    expect([readPort(board, 0x3d5, 1), low]).toEqual([0x07, 0xcf]);
  });

  test('of several bytes are consecutive ones', () => {
    const { board, sent } = createTestBoard();
    writePort(board, 0x3fe, 2, 0xa500);
    expect(readPort(board, 0x3fe, 2)).toBe(0xa5b0);
    expect(sent).toEqual([]);
  });

  test('of the CMOS are index and data', () => {
    const { board } = createTestBoard();
    writePort(board, 0x70, 1, 0x17);
    expect(readPort(board, 0x71, 1)).toBe((63 * 1024) & 0xff);
    expect(readPort(board, 0x70, 1)).toBe(0xff);
  });

  test('of the IMCR, which the MP floating pointer announces, are address and data', () => {
    const { floatingPointer } = buildMpTables({ apicIds: [0], timer: 'extInt' });
    expect(readFloatingPointer(floatingPointer.bytes).value?.imcr).toBe(true);
    const { board } = createTestBoard();
    writePort(board, 0x22, 1, 0x70);
    expect(readPort(board, 0x23, 1)).toBe(0);
    writePort(board, 0x23, 1, 1);
    expect([readPort(board, 0x22, 1), readPort(board, 0x23, 1)]).toEqual([0xff, 1]);
  });

  test('of the IMCR take address and data in one 16-bit write', () => {
    const { board } = createTestBoard();
    writePort(board, 0x22, 2, 0x0170);
    expect(readPort(board, 0x23, 1)).toBe(1);
  });

  test('of the keyboard controller are command and data', () => {
    const { board } = createTestBoard();
    writePort(board, 0x64, 1, 0xaa);
    expect([readPort(board, 0x64, 1), readPort(board, 0x60, 1), readPort(board, 0x64, 1)]).toEqual([
      5, 0x55, 4,
    ]);
  });

  test.each<[string, number, number, PitChange | undefined]>([
    ['a control word', 0x43, 0xb4, { kind: 'control', channel: 2, access: 3, mode: 2, bcd: 0 }],
    [
      'one for mode 7, which is 3, in BCD',
      0x43,
      0x2f,
      { kind: 'control', channel: 0, access: 2, mode: 3, bcd: 1 },
    ],
    ['a latch of a counter', 0x43, 0x00, undefined],
    ['a read-back', 0x43, 0xc2, undefined],
    ['a count', 0x41, 0x12, { kind: 'count', channel: 1, count: 0x12 }],
    ['the gate of channel 2', 0x61, 0x01, { kind: 'gate', channel: 2, gate: 1, speaker: false }],
    ['the speaker', 0x61, 0x02, { kind: 'gate', channel: 2, gate: 0, speaker: true }],
  ])('of the PIT make it, as the write does that comes first: %s', (_, port, value, change) => {
    const { board, pitStarts } = createTestBoard();
    expect(writePort(board, port, 1, value)).toBe(BUS_EVENT.none);
    expect(pitStarts).toEqual([change]);
  });

  test.each([0x40, 0x41, 0x42, 0x43, 0x61])(
    'of the PIT make it by a read of %p, which finds it at rest',
    (port) => {
      const { board, pitStarts } = createTestBoard();
      expect(readPort(board, port, 1)).toBe(0);
      expect(pitStarts).toEqual([undefined]);
    },
  );

  test('of A20 say that it is on', () => {
    const { board } = createTestBoard();
    expect(readPort(board, 0x92, 1)).toBe(2);
  });
});

describe('events', () => {
  test.each([
    ['the keyboard controller pulses reset', 0x64, 1, 0xfe, BUS_EVENT.reset],
    ['port 0x92 resets', 0x92, 1, 0x03, BUS_EVENT.reset],
    ['port 0x92 only opens A20', 0x92, 1, 0x02, BUS_EVENT.none],
    ['port 0xCF9 resets', 0xcf9, 1, 0x06, BUS_EVENT.reset],
    ['port 0xCF9 prepares', 0xcf9, 1, 0x02, BUS_EVENT.none],
    ['PCI address bits are no reset', 0xcf8, 4, 0x8000_0400, BUS_EVENT.none],
    ['SLP_EN powers off', 0x604, 2, 0x2000, BUS_EVENT.powerOff],
    ['SLP_EN in 32 bits powers off', 0x604, 4, 0x3400, BUS_EVENT.powerOff],
    ['PM1a without SLP_EN does not', 0x604, 2, 0x1c00, BUS_EVENT.none],
    ['PM1a in 8 bits does not', 0x604, 1, 0x20, BUS_EVENT.none],
    ['a POST code does not', 0x80, 1, 0xff, BUS_EVENT.none],
    ['the exit port ends the guest', 0xf4, 4, 0x1234, BUS_EVENT.guestExit],
  ])('%s', (_, port, size, value, event) => {
    const { board } = createTestBoard();
    expect(writePort(board, port, size, value)).toBe(event);
  });

  test('of the exit port keep their status', () => {
    const { board } = createTestBoard();
    writePort(board, 0xf4, 4, 0x1234);
    expect(board.exitStatus).toBe(0x1234);
  });
});
