import { describe, expect, test } from 'bun:test';
import { buildFunction, msixCapability } from '../../../src/pci/config-builder.ts';
import {
  barAddress,
  createFunctionWords,
  decodesMemory,
  placeBar,
  readConfigSpace,
  resetFunction,
  writeConfigSpace,
} from '../../../src/pci/function-state.ts';
import { hostBridgeShape } from '../../../src/pci/host-bridge.ts';
import { COMMAND, CONFIG } from '../../../src/pci/regs.ts';

const SHAPE = buildFunction({
  identity: { vendorId: 0x1af4, deviceId: 0x1042, revision: 1, classCode: 0x018000, subsystemId: 0x1042 },
  barBytes: 0x8000,
  vectors: 3,
  interruptPin: 1,
  capabilities: [msixCapability(3, 0x3000, 0x4000), { id: 9, body: new Uint8Array(13) }],
});

function powerOn() {
  const words = createFunctionWords();
  resetFunction(words, SHAPE);
  words[0] = 1;
  const write = (offset: number, size: number, value: number) =>
    writeConfigSpace(words, SHAPE.writable, offset, size, value);
  return { words, write, read: (offset: number, size: number) => readConfigSpace(words, offset, size) };
}

describe('the header', () => {
  test('has ids, class and revision where PCI puts them', () => {
    const { read } = powerOn();
    expect(read(0, 4)).toBe(0x10421af4);
    expect(read(8, 4)).toBe(0x01800001);
    expect(read(CONFIG.subsystemId, 2)).toBe(0x1042);
    expect(read(CONFIG.interruptPin, 1)).toBe(1);
    expect(read(CONFIG.headerType, 1)).toBe(0);
  });

  test('keeps its ids when software writes to them', () => {
    const { read, write } = powerOn();
    write(0, 4, 0);
    write(8, 4, 0xffffffff);
    expect(read(0, 4)).toBe(0x10421af4);
    expect(read(8, 4)).toBe(0x01800001);
  });

  test('stores command, interrupt line and cache line size, byte by byte', () => {
    const { read, write } = powerOn();
    write(CONFIG.command, 2, 0xffff);
    write(CONFIG.interruptLine, 1, 0x0b);
    write(CONFIG.cacheLineSize, 1, 0x10);
    expect(read(CONFIG.command, 2)).toBe(0x0546);
    expect(read(CONFIG.interruptLine, 4)).toBe(0x010b);
    expect(read(CONFIG.cacheLineSize, 1)).toBe(0x10);
  });

  test('reads all ones across a double word, ignores such a write, and has nothing behind 256 bytes', () => {
    const { read, write } = powerOn();
    write(CONFIG.interruptLine - 1, 2, 0xffff);
    write(3, 4, 0xffffffff);
    expect(read(CONFIG.interruptLine, 1)).toBe(0);
    expect(read(2, 4)).toBe(0xffffffff);
    expect(read(0x100, 4)).toBe(0);
  });
});

describe('the base address register', () => {
  test('shows its size when all ones are written', () => {
    const { read, write } = powerOn();
    write(CONFIG.bar0, 4, 0xffffffff);
    write(CONFIG.bar0 + 4, 4, 0xffffffff);
    expect(read(CONFIG.bar0, 4)).toBe(0xffff8004);
    expect(read(CONFIG.bar0 + 4, 4)).toBe(0xffffffff);
  });

  test('takes an address above 4 GiB', () => {
    const { words, write } = powerOn();
    write(CONFIG.bar0, 4, 0x1234_ffff);
    write(CONFIG.bar0 + 4, 4, 0x8);
    expect(barAddress(words)).toBe(0x8_1234_8000);
  });

  test('is decoded only while memory space is enabled', () => {
    const { words, write } = powerOn();
    placeBar(words, 0xc000_8000);
    const before = decodesMemory(words);
    write(CONFIG.command, 2, COMMAND.memorySpaceBit);
    expect([before, decodesMemory(words), barAddress(words)]).toEqual([false, true, 0xc000_8000]);
  });

  test('the others read as 0', () => {
    const { read, write } = powerOn();
    for (let bar = CONFIG.bar0 + 8; bar < CONFIG.bar0 + 24; bar += 4) write(bar, 4, 0xffffffff);
    expect([0, 1, 2, 3].map((i) => read(CONFIG.bar0 + 8 + 4 * i, 4))).toEqual([0, 0, 0, 0]);
  });
});

describe('the list of capabilities', () => {
  test('leads from each to the next and ends', () => {
    const { read } = powerOn();
    const first = read(CONFIG.capabilities, 1);
    const second = read(first + 1, 1);
    expect([first, read(first, 1), second, read(second, 1), read(second + 1, 1)]).toEqual([
      0x40, 0x11, 0x4c, 0x09, 0,
    ]);
    expect(read(CONFIG.status, 2)).toBe(0x10);
  });

  test('of MSI-X, only enable and function mask can be written', () => {
    const { read, write } = powerOn();
    write(0x42, 2, 0xffff);
    write(0x44, 4, 0xffffffff);
    expect([read(0x42, 2), read(0x44, 4), read(0x48, 4)]).toEqual([0xc002, 0x3000, 0x4000]);
  });

  test('refuses more than fits into 256 bytes', () => {
    const body = new Uint8Array(100);
    const inputs = { identity: { vendorId: 1, deviceId: 1, revision: 0, classCode: 0 } };
    const build = () =>
      buildFunction({ ...inputs, capabilities: [body, body].map((each) => ({ id: 9, body: each })) });
    expect(build).toThrow('Cannot place a PCI capability');
  });
});

test('the host bridge has the class of one, and no capabilities, interrupt or address', () => {
  const words = createFunctionWords();
  resetFunction(words, hostBridgeShape());
  const read = (offset: number) => readConfigSpace(words, offset, 4);
  expect([read(8) >>> 8, read(CONFIG.bar0), read(CONFIG.capabilities), read(CONFIG.interruptLine)]).toEqual([
    0x060000, 0, 0, 0,
  ]);
});
