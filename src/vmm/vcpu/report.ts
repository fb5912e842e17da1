/** Why a vCPU left KVM_RUN for good. Plain data: it is sent by postMessage. */

export interface RegisterDump {
  readonly rip: string;
  readonly lines: readonly string[];
}

/** General registers of a vCPU as of the last time that the main thread asked for them. */
export interface LastSample extends RegisterDump {
  readonly ageMs: number;
}

export type VcpuReport =
  /** The main thread asked it to. */
  | { readonly kind: 'stopped' }
  /** Saved by a snapshot that ends the guest: where it is. */
  | { readonly kind: 'saved'; readonly directory: string; readonly id: string }
  | { readonly kind: 'reset' }
  | { readonly kind: 'power-off' }
  /** The guest wrote its status to the exit port. */
  | { readonly kind: 'guest-exit'; readonly status: number }
  /** KVM_EXIT_SHUTDOWN: a fault while delivering a double fault. */
  | { readonly kind: 'triple-fault'; readonly registers: RegisterDump }
  /**
   * The same where KVM resets the vCPU before it reports the exit. The VMCB of an AMD processor is undefined
   * after a shutdown intercept. (APM 2 §15.14.3; Linux arch/x86/kvm/svm/svm.c, shutdown_interception)
   */
  | {
      readonly kind: 'triple-fault';
      readonly registers: undefined;
      readonly lastSample: LastSample | undefined;
    }
  /** KVM could not go on: `what` in one line, then details. */
  | {
      readonly kind: 'kvm-failure';
      readonly what: string;
      readonly details: readonly string[];
      readonly registers: RegisterDump;
    }
  /** A defect or a failing system call in Volt itself. */
  | { readonly kind: 'failed'; readonly message: string };

export type VcpuMessage = { readonly index: number; readonly report: VcpuReport };
