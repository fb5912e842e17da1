import { expect, test } from 'bun:test';
import { viewOf } from '../../../src/binary/bytes.ts';
import { MSR_ENTRY, MSRS } from '../../../src/kvm/abi.ts';
import {
  countMsrs,
  msrCall,
  msrRequest,
  msrsToSave,
  savedMsr,
  savedMsrs,
  withoutMsrs,
  withSavedMsr,
} from '../../../src/kvm/saved-msrs.ts';

const [TSC, TSC_DEADLINE, FEATURE_CONTROL, EFER, STAR] = [0x10, 0x6e0, 0x3a, 0xc000_0080, 0xc000_0081];
const [MTRR_DEF_TYPE, MC0_CTL2, MC0_CTL, MC1_MISC] = [0x2ff, 0x280, 0x400, 0x407];

/** Saved MSRs, each with its place in the list as its value. */
const saved = (indices: readonly number[]) => {
  const block = msrRequest(indices).slice(MSRS.size);
  indices.forEach((_, i) => viewOf(block).setBigUint64(i * MSR_ENTRY.size + MSR_ENTRY.data, BigInt(i), true));
  return block;
};

test('the feature control MSR comes first, the TSC last but one, its deadline last', () => {
  const order = msrsToSave([TSC, STAR, TSC_DEADLINE, FEATURE_CONTROL, EFER], 0);

  expect(order[0]).toBe(FEATURE_CONTROL);
  expect(order.slice(-2)).toEqual([TSC, TSC_DEADLINE]);
});

test('each MSR is there once, with those that KVM does not list, and without those of Hyper-V', () => {
  const order = msrsToSave([STAR, STAR, MTRR_DEF_TYPE, 0x4000_0000, 0x4000_01ff, 0x4000_0200], 2);

  expect(new Set(order).size).toBe(order.length);
  expect(order).toEqual(
    expect.arrayContaining([STAR, MTRR_DEF_TYPE, MC0_CTL2, MC0_CTL, MC1_MISC, 0x4000_0200]),
  );
  expect(order.filter((index) => index === 0x4000_0000 || index === 0x4000_01ff)).toEqual([]);
  expect(order).not.toContain(MC1_MISC + 1);
});

test('an MSR that the host does not list is not asked for, for the sake of its order', () => {
  expect(msrsToSave([STAR], 0)).not.toContain(TSC_DEADLINE);
});

test('a block is read and changed by the index of an MSR', () => {
  const block = saved([STAR, TSC, EFER]);

  const changed = withSavedMsr(block, TSC, 0xffff_ffff_ffff_fffen);

  expect(savedMsr(block, TSC)).toBe(1n);
  expect(savedMsr(block, TSC_DEADLINE)).toBeUndefined();
  expect(savedMsrs(changed)).toEqual([
    { index: STAR, value: 0n },
    { index: TSC, value: 0xffff_ffff_ffff_fffen },
    { index: EFER, value: 2n },
  ]);
  expect(savedMsrs(withoutMsrs(changed, [STAR, EFER]))).toEqual([
    { index: TSC, value: 0xffff_ffff_ffff_fffen },
  ]);
});

test('a call to KVM has a part of a block, and the count of what it has', () => {
  const block = saved([STAR, TSC, EFER]);

  const call = msrCall(block, 1, 3);

  expect(countMsrs(block)).toBe(3);
  expect(viewOf(call).getUint32(MSRS.nmsrs, true)).toBe(2);
  expect(savedMsrs(call.slice(MSRS.size)).map(({ index }) => index)).toEqual([TSC, EFER]);
});
