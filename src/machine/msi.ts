/**
 * A message-signalled interrupt, as the write transaction of a device. (Intel SDM 3A §11.11; KVM api.rst,
 * KVM_SIGNAL_MSI)
 */
export interface Msi {
  /** Message address, u32; bits 19–12 hold bits 7–0 of the destination APIC id. */
  readonly address: number;
  /** Bits 31–8 of the destination APIC id, at their positions; u32. (KVM api.rst, KVM_CAP_X2APIC_API) */
  readonly addressHigh: number;
  /** Message data, u32: vector, delivery mode, level and trigger mode. */
  readonly data: number;
}
