/** Every I/O port that Volt answers itself. PIC, PIT and port 0x61 are answered inside KVM. */
export const PORT = {
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
  /** PM1a control of the PC emulators hobby kernels know: SLP_EN (bit 13) powers off. */
  pm1aControl: 0x604,
} as const;

export const COM1_PORTS = 8;
export const PM1A_SLEEP_ENABLE = 1 << 13;
