/** A state file as format 1 was first written: every later Volt that reads format 1 reads it. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'bun:test';
import { parseConfig } from '../../../../src/config/config.ts';
import { savedMsrs } from '../../../../src/kvm/saved-msrs.ts';
import { decodeState } from '../../../../src/vmm/state/machine-state.ts';

const FILE = resolve(import.meta.dir, '../../../vectors/state/format-1');
const IA32_MTRR_DEF_TYPE = 0x2ff;

test('the golden file of format 1 is read, with what its guest was', () => {
  const state = decodeState(readFileSync(FILE), FILE);

  expect(state).toMatchObject({
    id: '00112233445566778899aabbccddeeff',
    createdAt: 1_700_000_000_000,
    cpus: 2,
    boot: { protocol: 'pvh' },
    vm: { routing: 'default' },
    vmGenId: { address: 0xe_ff00 },
    memory: {
      regions: [{ address: 0, bytes: 64 * 2 ** 20 }],
      layers: [{ file: 'memory-00112233445566778899aabbccddeeff', bytes: 64 * 2 ** 20 }],
    },
  });
  expect(state.vcpus.map(({ index, apicId, parked }) => [index, apicId, parked])).toEqual([
    [0, 0, false],
    [1, 1, false],
  ]);
  expect(state.vcpus.every(({ tscKhz }) => tscKhz === 2_300_000)).toBe(true);
  expect(savedMsrs(state.vcpus[1]!.msrs)).toContainEqual({ index: IA32_MTRR_DEF_TYPE, value: 0x806n });
  expect(state.devices.map(({ kind, id }) => [kind, id])).toEqual([['entropy', 'rng']]);
  expect(parseConfig(state.config).config).toMatchObject({ cmdline: 'quick', cpus: 2, maxCpus: 3 });
});
