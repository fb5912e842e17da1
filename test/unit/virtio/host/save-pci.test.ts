import { describe, expect, test } from 'bun:test';
import {
  configRegister,
  createFunctionWords,
  readConfigSpace,
  resetFunction,
} from '../../../../src/pci/function-state.ts';
import { readMsixTable } from '../../../../src/pci/msix.ts';
import { CONFIG } from '../../../../src/pci/regs.ts';
import { restorePci, savePci, type SavedPci } from '../../../../src/virtio/host/save-pci.ts';
import { createDeviceState, DEVICE_WORD } from '../../../../src/virtio/transport/device-state.ts';
import { DEVICE_TYPE } from '../../../../src/virtio/transport/mmio.regs.ts';
import { virtioShape } from '../../../../src/virtio/transport/pci-shape.ts';
import { voltErrorOf } from '../../support/errors.ts';

const SHAPE = virtioShape(DEVICE_TYPE.block, 1);

function device() {
  const state = createDeviceState({
    type: DEVICE_TYPE.block,
    features: [],
    queueSizes: [8],
    config: new Uint8Array(8),
  });
  const words = createFunctionWords();
  resetFunction(words, SHAPE);
  return { state, words };
}

/** The state of a device that is new, with changes. */
function saved(change: Partial<SavedPci> = {}): SavedPci {
  const { state, words } = device();
  return { ...savePci(1, words, state, () => false), ...change };
}

function restore(from: SavedPci) {
  const { state, words } = device();
  restorePci(words, SHAPE, state, from, 'disk (block)');
  return { state, words };
}

describe('a saved PCI function', () => {
  test('gives another one its registers, its table and its vectors', () => {
    const config = saved()
      .config.with(1, 0x0010_0406)
      .with(CONFIG.bar0 / 4, 0xd000_0004);
    config[SHAPE.msixCapability / 4] = 0x8001_4c11;
    const table = [0xfee0_0000, 0, 0x41, 0, 0xfee0_1000, 0, 0x42, 1];

    const { state, words } = restore(saved({ config, table, vectors: [1, 2] }));

    expect([configRegister(words, CONFIG.command), readConfigSpace(words, CONFIG.bar0, 4)]).toEqual([
      0x406, 0xd000_0004,
    ]);
    expect([readMsixTable(words, 16, 4), readMsixTable(words, 28, 4)]).toEqual([0xfee0_1000, 1]);
    const { msixEnabled, pinDisabled, configVector } = DEVICE_WORD;
    expect([msixEnabled, pinDisabled, configVector].map((word) => state.words[word])).toEqual([1, 1, 1]);
  });

  test('cannot change what software cannot', () => {
    const { words } = restore(saved({ config: saved().config.map(() => 0xffff_ffff) }));

    expect(readConfigSpace(words, 0, 4)).toBe(0x10421af4);
    expect(readConfigSpace(words, CONFIG.bar0, 4)).toBe(0xffff_8004);
  });

  test.each([
    ['a configuration space of another size', { config: [1] }],
    ['a table of another size', { table: [1, 2, 3, 4] }],
    ['vectors of another number of queues', { vectors: [0] }],
    ['a vector that the table does not have', { vectors: [0, 3] }],
    ['a pending source that there is not', { pending: [2] }],
  ])('is refused with %s', (_, change) => {
    const error = voltErrorOf(() => restore(saved(change)));

    expect(error.code).toBe('config');
    expect(error.message).toContain('Cannot restore device disk (block): ');
  });
});
