/** What a vCPU's thread asks KVM about its vCPU, off the path of I/O exits. */
import { MP_STATE } from '../../kvm/abi.ts';
import { readMpState, readRegs, readSipiVector, readSregs } from '../../kvm/vcpu.ts';

/** A test of the exit handler gives its own, and needs no vCPU. */
export interface VcpuQueries {
  /** One of KVM_MP_STATE. Lets KVM process a pending INIT or SIPI. */
  mpState(): number;
  sipiVector(): number;
  /** `struct kvm_regs`, by the offsets of REGS. */
  regs(): DataView;
  /** `struct kvm_sregs`, by the offsets of SREGS. */
  sregs(): DataView;
}

/** All of them throw SyscallError. */
export function vcpuQueries(vcpuFd: number): VcpuQueries {
  const mpState = new Uint32Array(MP_STATE.size / 4);
  return {
    mpState: () => readMpState(vcpuFd, mpState),
    sipiVector: () => readSipiVector(vcpuFd),
    regs: () => readRegs(vcpuFd),
    sregs: () => readSregs(vcpuFd),
  };
}
