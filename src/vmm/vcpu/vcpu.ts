/** One vCPU as the main thread holds it. */
import type { KvmVcpu } from '../../kvm/vcpu.ts';
import type { VcpuScheduling } from './scheduling.ts';

export interface Vcpu {
  readonly index: number;
  readonly kvm: KvmVcpu;
  /** Its block of the shared state, by VCPU_WORD. */
  readonly words: Int32Array;
  /** The first bytes of kvm_run, where `immediate_exit` is. */
  readonly runFlags: Uint8Array;
  readonly scheduling: VcpuScheduling;
  /**
   * While a thread without JavaScript holds the vCPU out of the guest: obeys what `words` say, as a Worker does
   * after a kick. undefined: it runs, or has a Worker.
   */
  held: (() => void) | undefined;
  /** True once its thread has left KVM_RUN for good, and while it has no thread. */
  ended: boolean;
}
