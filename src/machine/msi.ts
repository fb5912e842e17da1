/**
 * A message signalled interrupt: the write that a device would make. (Intel SDM 3A §11.11; struct kvm_msi in KVM
 * api.rst, KVM_SIGNAL_MSI)
 */
export interface Msi {
  /** Message address, which holds bits 7–0 of the APIC id. */
  readonly address: number;
  /** Bits 31–8 of an x2APIC id, in their places. (KVM api.rst, KVM_CAP_X2APIC_API) */
  readonly addressHigh: number;
  /** Vector, delivery mode, level and trigger mode. */
  readonly data: number;
}
