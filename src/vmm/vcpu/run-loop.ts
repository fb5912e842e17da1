/** The loop of one vCPU: KVM_RUN, then the exit handler, until something ends the vCPU. */
import { asPointer, lastErrno, libc } from '../../ffi/libc.ts';
import { IOCTL } from '../../kvm/abi.ts';
import { handleExit, type VcpuContext } from './handle-exit.ts';
import type { VcpuReport } from './report.ts';

/** A number, which Bun passes 30 ns faster than a null. */
const NO_ARGUMENT = asPointer(0);

/**
 * Runs the vCPU until something ends it. `pending` is what KVM_RUN returned on the thread that ran it before,
 * 0 or a negated errno: that exit is handled first. Throws SyscallError when KVM_RUN itself fails.
 */
export function runVcpu(fd: number, vcpu: VcpuContext, pending: number | undefined): VcpuReport {
  let end = pending === undefined ? undefined : handleExit(vcpu, -pending);
  while (end === undefined) end = runOnce(fd, vcpu);
  return end;
}

/**
 * From one exit to the next. Not the body of the loop above, because the engine counts a call for more than
 * an iteration of a loop: a function is optimized after some hundred exits, a loop's body after some ten
 * thousand.
 */
function runOnce(fd: number, vcpu: VcpuContext): VcpuReport | undefined {
  const result = libc.ioctl(fd, IOCTL.run, NO_ARGUMENT);
  return handleExit(vcpu, result < 0 ? lastErrno() : 0);
}
