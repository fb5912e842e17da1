/** I/O ports that Volt emulates. KVM emulates the PICs, and the PIT after its first access. */
export const PORT = {
  /** Interrupt Mode Configuration Register: address, data. (MPS 1.4 §3.6.2.1) */
  imcrAddress: 0x22,
  imcrData: 0x23,
  /** PIT: three counters and the control word register; KVM handles them after the first access. */
  pit: 0x40,
  pitControl: 0x43,
  /** System control port B, like the PIT: gate and output of PIT channel 2, speaker. */
  systemControlB: 0x61,
  /** i8042 keyboard controller: data, command/status. Command 0xFE pulses the reset line. */
  i8042Data: 0x60,
  i8042Command: 0x64,
  /** CMOS RAM and real-time clock: index, data. */
  cmosIndex: 0x70,
  cmosData: 0x71,
  /** POST diagnostic code; Linux writes to it as an I/O delay. */
  post: 0x80,
  /** Guest status: a write ends the VM, 0 means success. The port of QEMU's isa-debug-exit in common use. */
  exit: 0xf4,
  /** CRT controller of a VGA: index, data. Only where the text cursor is; there is no screen. */
  crtIndex: 0x3d4,
  crtData: 0x3d5,
  /** COM1, a 16550A: eight registers. */
  com1: 0x3f8,
  /** PCI configuration mechanism #1: CONFIG_ADDRESS, CONFIG_DATA. */
  pciConfigAddress: 0xcf8,
  pciConfigData: 0xcfc,
  /** Reset control register of PC chipsets: a rising edge of bit 2 resets. */
  resetControl: 0xcf9,
  /** System control port A: a rising edge of bit 0 resets, bit 1 is the A20 gate. */
  systemControlA: 0x92,
  /** Sleep control and status registers of hardware-reduced ACPI, one byte each. (ACPI 6.5 §4.8.3.7) */
  acpiSleepControl: 0x600,
  acpiSleepStatus: 0x601,
  /** PM1a control as QEMU's PC has it, where small kernels write to power off: SLP_EN (bit 13). */
  pm1aControl: 0x604,
  /** Pending events of the Generic Event Device, bits of ACPI_EVENT; cleared by reading. */
  acpiEvents: 0x608,
  /** Hotplug registers of PCI slots, which the methods of the DSDT's host bridges access. */
  pciHotplug: 0xcc0,
  /** CPU hotplug registers, which the methods of the DSDT's processor devices access. */
  cpuHotplug: 0xcd8,
} as const;

export const COM1_PORTS = 8;
/** Value for `resetControl`: bit 1, system reset; bit 2, reset the CPU. */
export const RESET_CONTROL_RESET = 0x06;
/** CMOS register that holds the century in BCD, as PC firmware uses it. */
export const CMOS_CENTURY = 0x32;
/** Fields of `acpiSleepControl`: SLP_TYPx in bits 4–2, SLP_EN in bit 5. */
export const ACPI_SLEEP_TYPE_S5 = 5;
export const ACPI_SLEEP_ENABLE = 1 << 5;
/** Bits of `acpiEvents`. */
export const ACPI_EVENT = {
  cpuHotplug: 1 << 0,
  powerButton: 1 << 1,
  vmGeneration: 1 << 2,
  pciHotplug: 1 << 3,
} as const;
/**
 * Register offsets from `cpuHotplug`. Writing a vCPU's index to `select` selects it. `status` reads its
 * CPU_HOTPLUG_STATUS; writing bits of it acknowledges events or, with `eject`, ejects the vCPU. Reading
 * `next` selects a vCPU with an unacknowledged event and returns its index, or CPU_HOTPLUG_NONE. `ostEvent`
 * and then `ostStatus` are written with the arguments of the selected vCPU's _OST; the second write completes
 * the report. (ACPI 6.5 §6.3.5)
 */
export const CPU_HOTPLUG = { select: 0, status: 4, next: 8, ostEvent: 8, ostStatus: 12, bytes: 16 } as const;
/** `present` is read-only, `inserted` and `removing` are write-1-to-clear, `eject` is write-only. */
export const CPU_HOTPLUG_STATUS = {
  present: 1 << 0,
  inserted: 1 << 1,
  removing: 1 << 2,
  eject: 1 << 3,
} as const;
/**
 * Register offsets from `pciHotplug`. `bus` selects a bus. Reading `inserted` or `removing` gives the devices of that
 * bus that were plugged, or that the guest is asked to remove, a bit for each, and clears the register. Writing a
 * device's number to `eject` removes it. `slot`, bus × 32 + device, and then `status` are written with the result of
 * an event by the device's _OST.
 */
export const PCI_HOTPLUG = {
  bus: 0x00,
  inserted: 0x04,
  removing: 0x08,
  eject: 0x0c,
  slot: 0x10,
  status: 0x14,
  bytes: 0x18,
} as const;
/** `next` without an event. */
export const CPU_HOTPLUG_NONE = 0xffff_ffff;
export const PM1A_SLEEP_ENABLE = 1 << 13;
