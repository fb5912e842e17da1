/** Global system interrupts. ISA IRQ n is GSI n; the I/O APIC of KVM has 24 pins. */
export const GSI = {
  timer: 0,
  keyboard: 1,
  cascade: 2,
  com1: 4,
  rtc: 8,
  /** The generic event device: CPU hotplug, power button. Edge-triggered. */
  acpiEvent: 9,
} as const;

export const ISA_IRQ_COUNT = 16;
export const IOAPIC_VERSION = 0x11;
/** Version of an APIC built into the processor, as the seed's MP table and KVM's own APIC report it. */
export const LOCAL_APIC_VERSION = 0x14;

/** Inputs for virtio devices, ISA ones first because MP tables know no others. */
export const VIRTIO_GSIS = [5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23] as const;
