/** Configuration space of PCI functions. (PCI Local Bus 3.0, chapter 6; PCI Express Base 5.0 §7.5, §7.7.2) */

/** Registers of the type 0 header, byte offsets. (PCI 3.0 §6.1) */
export const CONFIG = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revisionId: 0x08,
  /** Programming interface, sub-class and base class, one byte each. */
  classCode: 0x09,
  cacheLineSize: 0x0c,
  headerType: 0x0e,
  bar0: 0x10,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
  /** First byte behind the header. */
  header: 0x40,
  /** Functions without a PCI Express capability have no more. */
  size: 0x100,
} as const;

/** Bytes of a function's configuration space in ECAM. (PCI Express 5.0 §7.2.2) */
export const ECAM_FUNCTION_BYTES = 0x1000;

/** (PCI 3.0 §6.2.2, table 6-1) */
export const COMMAND = {
  memorySpaceBit: 1 << 1,
  busMasterBit: 1 << 2,
  parityResponseBit: 1 << 6,
  serrEnableBit: 1 << 8,
  interruptDisableBit: 1 << 10,
} as const;

/** (PCI 3.0 §6.2.3) */
export const STATUS = { interruptBit: 1 << 3, capabilitiesListBit: 1 << 4 } as const;

/** Low bits of a base address register of memory: type 64-bit. (PCI 3.0 §6.2.5.1) */
export const BAR_MEMORY_64 = 0b0100;
/** Bits of a memory BAR that are no address. */
export const BAR_FLAGS_MASK = 0xf;

/** (PCI 3.0, appendix H) */
export const CAPABILITY_ID = { vendorSpecific: 0x09, msix: 0x11 } as const;

/** MSI-X capability, byte offsets. (PCI Express 5.0 §7.7.2) */
export const MSIX_CAPABILITY = { id: 0, next: 1, control: 2, table: 4, pba: 8, size: 12 } as const;
export const MSIX_CONTROL = { tableSizeMask: 0x7ff, functionMaskBit: 1 << 14, enableBit: 1 << 15 } as const;
/** Entry of the MSI-X table, byte offsets. (§7.7.2.5 to §7.7.2.8) */
export const MSIX_ENTRY = { addressLow: 0, addressHigh: 4, data: 8, control: 12, size: 16 } as const;
export const MSIX_ENTRY_MASK_BIT = 1;

/** No function answers: the host bridge completes a read with all ones. (PCI 3.0 §6.1) */
export const NO_FUNCTION = 0xffff_ffff;
