/** Global system interrupts. ISA IRQ n is GSI n, without overrides; KVM's I/O APIC has 24 inputs. */
export const GSI = {
  timer: 0,
  keyboard: 1,
  cascade: 2,
  com1: 4,
  rtc: 8,
  /** Generic Event Device: CPU hotplug, power button. Edge-triggered. (ACPI 6.5 §5.6.9) */
  acpiEvent: 9,
} as const;

export const ISA_IRQ_COUNT = 16;
/** Version of the 82093AA register set. (IOAPICVER, as KVM reports it) */
export const IOAPIC_VERSION = 0x11;
/**
 * Version of an APIC integrated into the processor, as KVM's local APIC reports it. (Intel SDM 3A §11.4.8)
 */
export const LOCAL_APIC_VERSION = 0x14;

/** GSIs of the interrupt pins of PCI devices, level-triggered; device n of a bus has number n modulo 8. */
export const PCI_PIN_GSIS = [16, 17, 18, 19, 20, 21, 22, 23] as const;
/** GSIs that the I/O APIC has; those from here on are message-signalled. */
export const IOAPIC_GSI_COUNT = 24;
/** GSI of MSI-X vector 0 of the device in slot 0, and how many each slot has. */
export const FIRST_MSI_GSI = 32;
export const GSIS_PER_SLOT = 64;

/** GSIs for virtio MMIO devices; those below 16 come first, because the MP table lists only ISA interrupts. */
export const VIRTIO_GSIS = [5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23] as const;
