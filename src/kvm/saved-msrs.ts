/** MSRs in a saved state: which are read, in which order they are restored, and their encoding. Pure. */
import { viewOf } from '../binary/bytes.ts';
import { MSR_ENTRY, MSRS } from './abi.ts';
import { STATE_MSR as M } from './state-abi.ts';

/** KVM takes fewer than 256 in one call. (Linux arch/x86/kvm/x86.c, MAX_IO_MSRS) */
export const MSRS_PER_CALL = 255;

const VARIABLE_MTRRS = 8;
const MC_BANK_REGISTERS = 4;
/** Hyper-V's MSRs: Volt offers guests no Hyper-V interface. (TLFS, "Synthetic MSRs") */
const isHyperV = (index: number) => index >= 0x4000_0000 && index <= 0x4000_01ff;

const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

/** What KVM_GET_MSR_INDEX_LIST leaves out on some or all kernels, though a guest may change it. */
function unlisted(mcBanks: number): number[] {
  return [
    M.ia32DebugCtl,
    ...range(M.ia32MtrrPhysBase0, 2 * VARIABLE_MTRRS),
    M.ia32MtrrFix64k,
    ...range(M.ia32MtrrFix16k, 2),
    ...range(M.ia32MtrrFix4k, 8),
    M.ia32MtrrDefType,
    ...range(M.ia32Mc0Ctl2, mcBanks),
    ...range(M.ia32Mc0Ctl, mcBanks * MC_BANK_REGISTERS),
    M.ia32Xss,
  ];
}

/** The last ones need the TSC, and the timer of the local APIC needs its deadline last. */
const LAST: readonly number[] = [M.ia32Tsc, M.ia32TscDeadline];
/** Others may be written only with features that it enables. */
const FIRST: readonly number[] = [M.ia32FeatureControl];

/** MSRs to read, in the order of their restoration; `mcBanks` is the count in IA32_MCG_CAP. */
export function msrsToSave(listed: readonly number[], mcBanks: number): number[] {
  const all = [...new Set([...listed, ...unlisted(mcBanks)])].filter((index) => !isHyperV(index));
  const middle = all.filter((index) => !FIRST.includes(index) && !LAST.includes(index));
  return [...FIRST, ...middle, ...LAST].filter((index) => all.includes(index));
}

/** `struct kvm_msrs` with the indices and no values. */
export function msrRequest(indices: readonly number[]): Uint8Array {
  const request = new Uint8Array(MSRS.size + indices.length * MSR_ENTRY.size);
  const view = viewOf(request);
  view.setUint32(MSRS.nmsrs, indices.length, true);
  indices.forEach((index, i) => view.setUint32(entry(i) + MSR_ENTRY.index, index, true));
  return request;
}

/** `struct kvm_msrs` of entries `from` to `to` of a saved block. */
export function msrCall(saved: Uint8Array, from: number, to: number): Uint8Array {
  const call = new Uint8Array(MSRS.size + (to - from) * MSR_ENTRY.size);
  viewOf(call).setUint32(MSRS.nmsrs, to - from, true);
  call.set(saved.subarray(from * MSR_ENTRY.size, to * MSR_ENTRY.size), MSRS.size);
  return call;
}

function entry(i: number): number {
  return MSRS.size + i * MSR_ENTRY.size;
}

export function countMsrs(saved: Uint8Array): number {
  return saved.length / MSR_ENTRY.size;
}

/** Index and value of each MSR in a saved block. */
export function savedMsrs(saved: Uint8Array): { readonly index: number; readonly value: bigint }[] {
  const view = viewOf(saved);
  return Array.from({ length: countMsrs(saved) }, (_, i) => ({
    index: view.getUint32(i * MSR_ENTRY.size + MSR_ENTRY.index, true),
    value: view.getBigUint64(i * MSR_ENTRY.size + MSR_ENTRY.data, true),
  }));
}

/** Value of an MSR in a saved block; undefined: it is not there. */
export function savedMsr(saved: Uint8Array, index: number): bigint | undefined {
  return savedMsrs(saved).find((msr) => msr.index === index)?.value;
}

/** A saved block with another value for one MSR. */
export function withSavedMsr(saved: Uint8Array, index: number, value: bigint): Uint8Array {
  const changed = saved.slice();
  const view = viewOf(changed);
  for (let i = 0; i < countMsrs(changed); i++) {
    if (view.getUint32(i * MSR_ENTRY.size + MSR_ENTRY.index, true) === index)
      view.setBigUint64(i * MSR_ENTRY.size + MSR_ENTRY.data, value, true);
  }
  return changed;
}

/** A saved block without some MSRs. */
export function withoutMsrs(saved: Uint8Array, indices: readonly number[]): Uint8Array {
  const kept = savedMsrs(saved).flatMap(({ index }, i) => (indices.includes(index) ? [] : [i]));
  const block = new Uint8Array(kept.length * MSR_ENTRY.size);
  kept.forEach((from, to) => {
    block.set(saved.subarray(from * MSR_ENTRY.size, (from + 1) * MSR_ENTRY.size), to * MSR_ENTRY.size);
  });
  return block;
}
