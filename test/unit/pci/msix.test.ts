import { describe, expect, test } from 'bun:test';
import { buildFunction, msixCapability } from '../../../src/pci/config-builder.ts';
import { createFunctionWords, resetFunction } from '../../../src/pci/function-state.ts';
import { hasRoute, isVectorLive, noteRoute, readMsixTable, writeMsixTable } from '../../../src/pci/msix.ts';
import { MSIX_CONTROL } from '../../../src/pci/regs.ts';

const VECTORS = 4;
const ENABLED = MSIX_CONTROL.enableBit | (VECTORS - 1);

function powerOn(): Int32Array {
  const words = createFunctionWords();
  const identity = { vendorId: 1, deviceId: 2, revision: 0, classCode: 0 };
  resetFunction(
    words,
    buildFunction({ identity, vectors: VECTORS, capabilities: [msixCapability(VECTORS, 0x3000, 0x4000)] }),
  );
  return words;
}

function program(words: Int32Array, vector: number, [address, high, data, control]: readonly number[]): void {
  [address, high, data, control].forEach((value, i) => writeMsixTable(words, 16 * vector + 4 * i, 4, value!));
}

describe('the table', () => {
  test('starts with every vector masked', () => {
    const words = powerOn();
    expect([0, 1, 2, 3].map((vector) => readMsixTable(words, 16 * vector + 12, 4))).toEqual([1, 1, 1, 1]);
  });

  test('keeps addresses and data, and only the mask bit of the control word', () => {
    const words = powerOn();
    program(words, 2, [0xfee01000, 0x100, 0x4041, 0xfffffffe]);
    expect([0, 4, 8, 12].map((at) => readMsixTable(words, 32 + at, 4))).toEqual([
      0xfee01000, 0x100, 0x4041, 0,
    ]);
  });

  test('has no entries behind its size, and no bytes', () => {
    const words = powerOn();
    const written = writeMsixTable(words, 16 * VECTORS, 4, 1);
    expect([written, readMsixTable(words, 16 * VECTORS, 4), readMsixTable(words, 12, 2)]).toEqual([
      false,
      0,
      0,
    ]);
  });

  test('says whether a write changed it', () => {
    const words = powerOn();
    expect([writeMsixTable(words, 0, 4, 5), writeMsixTable(words, 0, 4, 5)]).toEqual([true, false]);
  });
});

describe('a vector is live', () => {
  test('when MSI-X is enabled, neither mask is set, and the address is an interrupt', () => {
    const words = powerOn();
    program(words, 1, [0xfee00000, 0, 0x41, 0]);
    expect(isVectorLive(words, 1, ENABLED)).toBe(true);
  });

  test.each([
    ['MSI-X is off', 1, [0xfee00000, 0, 0x41, 0], VECTORS - 1],
    ['the function is masked', 1, [0xfee00000, 0, 0x41, 0], ENABLED | MSIX_CONTROL.functionMaskBit],
    ['the vector is masked', 1, [0xfee00000, 0, 0x41, 1], ENABLED],
    ['its address is in RAM', 1, [0x1000, 0, 0x41, 0], ENABLED],
    ['its address is reserved', 1, [0xfee00000, 0xff, 0x41, 0], ENABLED],
    ['it is none of the table', VECTORS, [0xfee00000, 0, 0x41, 0], ENABLED],
    ['it is NO_VECTOR', -1, [0xfee00000, 0, 0x41, 0], ENABLED],
  ])('not when %s', (_, vector, entry, control) => {
    const words = powerOn();
    program(words, vector, entry);
    expect(isVectorLive(words, vector, control)).toBe(false);
  });
});

describe('the route of a vector', () => {
  test('is new when its message differs from the one that KVM has', () => {
    const words = powerOn();
    program(words, 3, [0xfee00000, 0, 0x41, 0]);
    const first = noteRoute(words, 3);
    const again = noteRoute(words, 3);
    program(words, 3, [0xfee01000, 0, 0x41, 0]);
    expect([first, again, noteRoute(words, 3)]).toEqual([true, false, true]);
  });

  test('does not exist before', () => {
    const words = powerOn();
    const before = hasRoute(words, 0);
    program(words, 0, [0xfee00000, 0, 0x41, 0]);
    noteRoute(words, 0);
    expect([before, hasRoute(words, 0)]).toEqual([false, true]);
  });
});
