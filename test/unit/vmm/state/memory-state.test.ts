import { describe, expect, test } from 'bun:test';
import * as v from 'valibot';
import { GIB, MIB } from '../../../../src/machine/address.ts';
import {
  isMemoryFile,
  MAX_LAYERS,
  MAX_RUNS,
  memoryFileName,
  MemoryStateSchema,
  ramBytes,
} from '../../../../src/vmm/state/memory-state.ts';

const MEMORY = {
  regions: [
    { address: 0, bytes: 3 * GIB },
    { address: 4 * GIB, bytes: GIB },
  ],
  layers: [
    { file: 'memory-00', bytes: 4 * GIB },
    {
      file: 'memory-a1',
      bytes: 4 * GIB,
      runs: [
        [0, 4096],
        [3 * GIB, MIB],
      ],
    },
  ],
};

const first = (change: object) => ({ ...MEMORY, layers: [{ ...MEMORY.layers[0], ...change }] });
const second = (change: object) => ({
  ...MEMORY,
  layers: [MEMORY.layers[0], { ...MEMORY.layers[1], ...change }],
});

test('a memory of two regions and two layers is accepted as it is', () => {
  expect(v.parse(MemoryStateSchema, JSON.parse(JSON.stringify(MEMORY))) as unknown).toEqual(MEMORY);
});

describe('a forged memory is refused in words', () => {
  test.each([
    ['that is a list', [], 'expected an object'],
    ['without regions', { ...MEMORY, regions: [] }, 'expected a list of 1 to 8'],
    ['without layers', { ...MEMORY, layers: [] }, `expected a list of 1 to ${MAX_LAYERS}`],
    [
      'with too many layers',
      { ...MEMORY, layers: Array.from({ length: MAX_LAYERS + 1 }, () => MEMORY.layers[0]) },
      `expected a list of 1 to ${MAX_LAYERS}`,
    ],
    ['with a key that is not known', { ...MEMORY, more: 1 }, 'unknown key'],
    ['with a path', first({ file: '../memory-00' }), 'expected memory- and a hexadecimal id'],
    ['with a slash in the name', first({ file: 'memory-0/0' }), 'expected memory- and a hexadecimal id'],
    ['with a line end in the name', first({ file: 'memory-00\n' }), 'expected memory- and a hexadecimal id'],
    ['with capitals in the name', first({ file: 'memory-AA' }), 'expected memory- and a hexadecimal id'],
    ['with half a page', first({ bytes: 100 }), 'expected a whole number from 4096'],
    [
      'with a file that is too short',
      first({ bytes: 4096 }),
      'memory-00 has 4096 bytes (expected 4294967296, as RAM has)',
    ],
    [
      'with runs in the first layer',
      first({ runs: [[0, 4096]] }),
      'memory-00 is the first layer, but lists runs',
    ],
    [
      'without runs in the second layer',
      second({ runs: undefined }),
      'memory-a1 is not the first layer, but lists no runs',
    ],
    [
      'with runs behind RAM',
      second({ runs: [[4 * GIB, 4096]] }),
      'memory-a1: the run [4294967296, 4096] is not in RAM',
    ],
    ['with runs of three numbers', second({ runs: [[0, 4096, 1]] }), 'pairs of an offset and a length'],
    ['with runs of words', second({ runs: [['0', 4096]] }), 'pairs of an offset and a length'],
    [
      'with more runs than a layer may have',
      second({ runs: Array.from({ length: MAX_RUNS + 1 }, (_, i) => [8192 * i, 4096]) }),
      `expected at most ${MAX_RUNS} pairs`,
    ],
    ['with one file twice', second({ file: 'memory-00' }), 'memory-00 is named twice'],
    [
      'with regions that overlap',
      {
        ...MEMORY,
        regions: [
          { address: 0, bytes: 3 * GIB },
          { address: 2 * GIB, bytes: GIB },
        ],
      },
      'the region at 2147483648 is not behind the one before it',
    ],
    [
      'with a region at half a page',
      { ...MEMORY, regions: [{ address: 100, bytes: 4096 }] },
      'expected a multiple of 4096',
    ],
  ])('%s', (_, memory, message) => {
    const { issues } = v.safeParse(MemoryStateSchema, memory);
    expect(issues?.map((issue) => issue.message).join('; ')).toContain(message);
  });
});

test('the name of a memory file is one that the schema accepts', () => {
  expect(isMemoryFile(memoryFileName('0123456789abcdef'))).toBe(true);
  expect(isMemoryFile('memory-')).toBe(false);
  expect(isMemoryFile('state')).toBe(false);
});

test('the bytes of RAM are those of all regions', () => {
  expect(ramBytes(MEMORY.regions)).toBe(4 * GIB);
});
