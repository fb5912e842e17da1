/** Sets bits of a vCPU's MSRs, as a CPU template says. (api.rst, KVM_GET_MSRS, KVM_SET_MSRS) */
import { viewOf } from '../binary/bytes.ts';
import { checked, libc } from '../ffi/libc.ts';
import { IOCTL, MSR_ENTRY, MSRS } from './abi.ts';
import { STATE_IOCTL } from './state-abi.ts';

/** The new value of the MSR `index`, from what KVM has. */
export interface MsrChange {
  readonly index: number;
  readonly change: (value: bigint) => bigint;
}

/** Returns the first MSR that KVM does not have, or whose value it refuses. Throws SyscallError. */
export function changeMsrs(vcpuFd: number, changes: readonly MsrChange[]): number | undefined {
  const block = new Uint8Array(MSRS.size + MSR_ENTRY.size);
  const view = viewOf(block);
  view.setUint32(MSRS.nmsrs, 1, true);
  for (const { index, change } of changes) {
    view.setUint32(MSRS.size + MSR_ENTRY.index, index, true);
    // SAFETY: KVM reads and writes `block`, which is local, during the call.
    if (checked(libc.ioctl(vcpuFd, STATE_IOCTL.getMsrs, block), 'KVM_GET_MSRS') !== 1) return index;
    const at = MSRS.size + MSR_ENTRY.data;
    view.setBigUint64(at, change(view.getBigUint64(at, true)), true);
    // SAFETY: the same.
    if (checked(libc.ioctl(vcpuFd, IOCTL.setMsrs, block), 'KVM_SET_MSRS') !== 1) return index;
  }
  return undefined;
}
