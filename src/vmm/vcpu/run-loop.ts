/** The loop of one vCPU: KVM_RUN, then the exit handler, until something ends the vCPU. */
import { asPointer, lastErrno, libc } from '../../ffi/libc.ts';
import { IOCTL, RUN } from '../../kvm/abi.ts';
import { exitDetail, handleExit, type VcpuContext } from './handle-exit.ts';
import { noteExit, TRACE_ERRNO, type TraceRing } from '../../trace/ring.layout.ts';
import { now } from '../bus/shared-state.ts';
import type { VcpuReport } from './report.ts';

/** A number, which Bun passes 30 ns faster than a null. */
const NO_ARGUMENT = asPointer(0);

/**
 * Runs the vCPU until something ends it. `pending` is what KVM_RUN returned on the thread that ran it before,
 * 0 or a negated errno: that exit is handled first. Throws SyscallError when KVM_RUN itself fails.
 */
export function runVcpu(fd: number, vcpu: VcpuContext, pending: number | undefined): VcpuReport {
  let end = pending === undefined ? undefined : handleExit(vcpu, -pending);
  while (end === undefined) {
    const ring = vcpu.trace?.ring;
    end = ring === undefined ? runOnce(fd, vcpu) : runTraced(fd, vcpu, ring);
  }
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

/** The same with a note of when the vCPU was in the guest, and why it left. Apart, so that a run without a trace has none of it. */
function runTraced(fd: number, vcpu: VcpuContext, ring: TraceRing): VcpuReport | undefined {
  const entered = now();
  const result = libc.ioctl(fd, IOCTL.run, NO_ARGUMENT);
  const errno = result < 0 ? lastErrno() : 0;
  const what = errno === 0 ? vcpu.run32[RUN.exitReason / 4]! : TRACE_ERRNO + errno;
  noteExit(ring, entered, now(), what, errno === 0 ? exitDetail(vcpu) : 0);
  return handleExit(vcpu, errno);
}
