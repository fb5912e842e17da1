/** Global system interrupts. ISA IRQ n is GSI n; the I/O APIC of KVM has 24 pins. */
export const GSI = {
  timer: 0,
  keyboard: 1,
  cascade: 2,
  com1: 4,
  rtc: 8,
} as const;

export const ISA_IRQ_COUNT = 16;
export const IOAPIC_VERSION = 0x11;
/** Version of an APIC built into the processor, as the seed's MP table and KVM's own APIC report it. */
export const LOCAL_APIC_VERSION = 0x14;
