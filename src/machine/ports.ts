/** Every I/O port that Volt answers itself. The PICs are answered inside KVM. */
export const PORT = {
  /** Interrupt Mode Configuration Register: address, data. (MPS 1.4 §3.6.2.1) */
  imcrAddress: 0x22,
  imcrData: 0x23,
  /** PIT: three counters and their control register; KVM's from the first access on. */
  pit: 0x40,
  pitControl: 0x43,
  /** System control port B, likewise: gate of PIT channel 2, speaker, and what the channel puts out. */
  systemControlB: 0x61,
  /** i8042 keyboard controller: data, and command/status. Command 0xFE pulses the reset line. */
  i8042Data: 0x60,
  i8042Command: 0x64,
  /** CMOS RAM and real-time clock: index, data. */
  cmosIndex: 0x70,
  cmosData: 0x71,
  /** POST diagnostics; Linux writes it as an I/O delay. */
  post: 0x80,
  /** Guest status, as QEMU's isa-debug-exit uses it: a write ends the VM, 0 means success. */
  exit: 0xf4,
  /** COM1, a 16550A: eight registers. */
  com1: 0x3f8,
  /** PCI configuration mechanism 1 (no PCI bus answers). */
  pciConfigAddress: 0xcf8,
  pciConfigData: 0xcfc,
  /** Reset control register of PC chipsets: bit 2 rising resets. */
  resetControl: 0xcf9,
  /** System control port A: bit 0 rising resets, bit 1 is A20. */
  systemControlA: 0x92,
  /** Sleep control and status of hardware-reduced ACPI, one byte each; SLP_EN (bit 5) powers off. (ACPI 6.5 §4.8.3.7) */
  acpiSleepControl: 0x600,
  acpiSleepStatus: 0x601,
  /** PM1a control of the PC emulators hobby kernels know: SLP_EN (bit 13) powers off. */
  pm1aControl: 0x604,
  /** What the generic event device has to tell: one bit each, cleared by reading. */
  acpiEvents: 0x608,
  /** CPU hotplug registers, which the DSDT's processor devices use. */
  cpuHotplug: 0xcd8,
} as const;

export const COM1_PORTS = 8;
/** Values behind `acpiSleepControl`: SLP_TYP in bits 4–2, SLP_EN. */
export const ACPI_SLEEP_TYPE_S5 = 5;
export const ACPI_SLEEP_ENABLE = 1 << 5;
/** Bits of `acpiEvents`. */
export const ACPI_EVENT = { cpuHotplug: 1 << 0, powerButton: 1 << 1 } as const;
/**
 * Offsets from `cpuHotplug`. Write a vCPU's index to `select`; `status` then reads that vCPU's CPU_HOTPLUG_STATUS,
 * and a write of the same bits acknowledges or, with `eject`, ejects. `next` reads the index of a vCPU with an
 * unacknowledged event and selects it, or CPU_HOTPLUG_NONE. `ostEvent` and `ostStatus` take what the guest's _OST
 * of the selected vCPU is told; the second write of the pair completes it.
 */
export const CPU_HOTPLUG = { select: 0, status: 4, next: 8, ostEvent: 8, ostStatus: 12, bytes: 16 } as const;
/** `present` is read-only; `inserted` and `removing` are acknowledged by writing them; `eject` is write-only. */
export const CPU_HOTPLUG_STATUS = {
  present: 1 << 0,
  inserted: 1 << 1,
  removing: 1 << 2,
  eject: 1 << 3,
} as const;
export const CPU_HOTPLUG_NONE = 0xffff_ffff;
export const PM1A_SLEEP_ENABLE = 1 << 13;
