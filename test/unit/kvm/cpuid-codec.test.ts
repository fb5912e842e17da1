import { expect, test } from 'bun:test';
import { decodeCpuid, encodeCpuid } from '../../../src/kvm/cpuid-codec.ts';
import { readCpuidVector } from '../support/vectors.ts';

test('an entry is 40 bytes behind a header of 8, in the order of struct kvm_cpuid_entry2', () => {
  const bytes = encodeCpuid([
    { function: 0x8000_0001, index: 2, flags: 1, eax: 0xffff_ffff, ebx: 3, ecx: 4, edx: 5 },
  ]);
  const words = [...new Uint32Array(bytes.buffer)];
  expect(words).toEqual([1, 0, 0x8000_0001, 2, 1, 0xffff_ffff, 3, 4, 5, 0, 0, 0]);
});

test.each(['amd-epyc', 'intel-xeon-w9-3475x'])(
  'the table of %s is the same after encoding and decoding',
  (name) => {
    const table = readCpuidVector(`cpuid/${name}.txt`);
    expect(decodeCpuid(encodeCpuid(table))).toEqual(table);
  },
);

test('only as many entries are decoded as the header counts', () => {
  const room = new Uint8Array(8 + 3 * 40);
  room.set(encodeCpuid([{ function: 7, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 3, edx: 4 }]));
  expect(decodeCpuid(room).length).toBe(1);
  expect(decodeCpuid(new Uint8Array(8))).toEqual([]);
});
