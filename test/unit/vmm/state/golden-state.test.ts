/** State files as each format was first written: every later Volt that reads the format reads them. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'bun:test';
import { parseConfig } from '../../../../src/config/config.ts';
import { savedMsrs } from '../../../../src/kvm/saved-msrs.ts';
import { decodeState } from '../../../../src/vmm/state/machine-state.ts';

const fileOf = (format: number) => resolve(import.meta.dir, `../../../vectors/state/format-${format}`);
const IA32_MTRR_DEF_TYPE = 0x2ff;

const BUCKET = { size: 1000, refillMs: 100, tokens: -12.5, burst: 7 };

test.each([
  [1, undefined],
  [2, [BUCKET, null, null, null]],
])('the golden file of format %d is read, with what its guest was', (format, buckets) => {
  const state = decodeState(readFileSync(fileOf(format)), 'the file');

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
  expect(state.devices[0]!.buckets).toEqual(buckets);
  expect(parseConfig(state.config).config).toMatchObject({ cmdline: 'quick', cpus: 2, maxCpus: 3 });
});
