/** ACPI 6.5, chapter 5: offsets, sizes and codes of each structure. */

/** §5.2.5.3, table 5.3 */
export const RSDP = {
  signature: 0x00,
  /** Of the first 20 bytes, which are the RSDP of ACPI 1.0. */
  checksum: 0x08,
  oemId: 0x09,
  revision: 0x0f,
  rsdt: 0x10,
  length: 0x14,
  xsdt: 0x18,
  extendedChecksum: 0x20,
  size: 0x24,
} as const;
export const RSDP_SIGNATURE = 'RSD PTR ';
export const RSDP_V1_BYTES = 20;

/** §5.2.6, table 5.4: header of all tables but the RSDP */
export const HEADER = {
  signature: 0x00,
  length: 0x04,
  revision: 0x08,
  checksum: 0x09,
  oemId: 0x0a,
  oemTableId: 0x10,
  oemRevision: 0x18,
  creatorId: 0x1c,
  creatorRevision: 0x20,
  size: 0x24,
} as const;

/** §5.2.6, table 5.5 */
export const SIGNATURE = {
  rsdt: 'RSDT',
  xsdt: 'XSDT',
  fadt: 'FACP',
  dsdt: 'DSDT',
  madt: 'APIC',
  srat: 'SRAT',
  slit: 'SLIT',
  hmat: 'HMAT',
  pptt: 'PPTT',
  spcr: 'SPCR',
  mcfg: 'MCFG',
} as const;

/** PCI Firmware Specification 3.3, table 4-2; eight reserved bytes follow the header. */
export const MCFG = { size: 0x2c } as const;
/** Table 4-3 */
export const MCFG_ALLOCATION = {
  address: 0x00,
  segment: 0x08,
  firstBus: 0x0a,
  lastBus: 0x0b,
  size: 0x10,
} as const;

/** §5.2.3.2, table 5.1 */
export const GENERIC_ADDRESS = {
  space: 0x00,
  bitWidth: 0x01,
  bitOffset: 0x02,
  accessSize: 0x03,
  address: 0x04,
  size: 0x0c,
} as const;
export const ADDRESS_SPACE_IO = 1;
export const ACCESS_BYTE = 1;

/** §5.2.9, table 5.9; without the fields that hardware-reduced ACPI ignores */
export const FADT = {
  dsdt: 0x28,
  preferredProfile: 0x2d,
  century: 0x6c,
  bootArchitecture: 0x6d,
  flags: 0x70,
  resetRegister: 0x74,
  resetValue: 0x80,
  minorRevision: 0x83,
  xDsdt: 0x8c,
  sleepControl: 0xf4,
  sleepStatus: 0x100,
  hypervisor: 0x10c,
  size: 0x114,
} as const;
/** §5.2.9, table 5.10 */
export const FADT_FLAG = {
  wbinvd: 1 << 0,
  procC1: 1 << 2,
  /** Set: the power button is a control method device, or there is none. `sleepButtonDevice` likewise. */
  powerButtonDevice: 1 << 4,
  sleepButtonDevice: 1 << 5,
  rtcWakeNotFixed: 1 << 6,
  resetRegister: 1 << 10,
  headless: 1 << 12,
  physicalDestinations: 1 << 19,
  hardwareReduced: 1 << 20,
} as const;
/** §5.2.9.3, table 5.11 */
export const BOOT_ARCHITECTURE = { legacyDevices: 1 << 0, i8042: 1 << 1, noVga: 1 << 2 } as const;

/** §5.2.12, table 5.19 */
export const MADT = { localApicAddress: 0x24, flags: 0x28, size: 0x2c } as const;
/** PCAT_COMPAT: there are two 8259s. */
export const MADT_FLAG_PC_AT = 1 << 0;
/** §5.2.12, table 5.21 */
export const MADT_TYPE = {
  localApic: 0,
  ioApic: 1,
  interruptOverride: 2,
  localApicNmi: 4,
  localX2apic: 9,
  localX2apicNmi: 10,
} as const;
/** §5.2.12.2 */
export const LOCAL_APIC = { uid: 2, apicId: 3, flags: 4, size: 8 } as const;
export const LOCAL_APIC_FLAG = { enabled: 1 << 0, onlineCapable: 1 << 1 } as const;
/** §5.2.12.3 */
export const IO_APIC = { id: 2, address: 4, firstGsi: 8, size: 12 } as const;
/** §5.2.12.5; flags as in table 5.26 */
export const INTERRUPT_OVERRIDE = { bus: 2, irq: 3, gsi: 4, flags: 8, size: 10 } as const;
export const INTERRUPT_FLAG = { activeHigh: 0b01, edge: 0b0100 } as const;
/** §5.2.12.7 */
export const LOCAL_APIC_NMI = { uid: 2, flags: 3, lint: 5, size: 6 } as const;
/** §5.2.12.12 */
export const LOCAL_X2APIC = { apicId: 4, flags: 8, uid: 12, size: 16 } as const;
/** §5.2.12.13 */
export const LOCAL_X2APIC_NMI = { flags: 2, uid: 4, lint: 8, size: 12 } as const;
/** All processors, in the NMI structures. (§5.2.12.7, §5.2.12.13) */
export const ALL_UIDS = 0xff;
export const ALL_X2APIC_UIDS = 0xffff_ffff;

/** §5.2.16: a reserved field that must be 1, and eight reserved bytes, follow the header. */
export const SRAT = { one: 0x24, size: 0x30 } as const;
export const SRAT_TYPE = { localApic: 0, memory: 1, localX2apic: 2 } as const;
export const SRAT_ENABLED = 1 << 0;
/** Of memory only (§5.2.16.2). */
export const SRAT_HOT_PLUGGABLE = 1 << 1;
/** §5.2.16.1; the proximity domain is split into its low byte and its three high bytes */
export const SRAT_LOCAL_APIC = { domainLow: 2, apicId: 3, flags: 4, domainHigh: 9, size: 16 } as const;
/** §5.2.16.2 */
export const SRAT_MEMORY = { domain: 2, base: 8, bytes: 16, flags: 28, size: 40 } as const;
/** §5.2.16.3 */
export const SRAT_LOCAL_X2APIC = { domain: 4, apicId: 8, flags: 12, size: 24 } as const;

/** §5.2.17 */
export const SLIT = { localities: 0x24, size: 0x2c } as const;
export const SLIT_LOCAL = 10;

/** §5.2.27; four reserved bytes follow the header */
export const HMAT = { size: 0x28 } as const;
export const HMAT_TYPE = { memoryAttributes: 0, localityInformation: 1 } as const;
/** §5.2.27.3 */
export const HMAT_MEMORY = { length: 4, flags: 8, initiator: 12, memory: 16, size: 40 } as const;
export const HMAT_INITIATOR_VALID = 1 << 0;
/** §5.2.27.4; the lists of initiators and targets and the matrix of 16-bit entries follow */
export const HMAT_LOCALITY = {
  length: 4,
  dataType: 9,
  initiators: 12,
  targets: 16,
  baseUnit: 24,
  size: 32,
} as const;
export const HMAT_DATA = { accessLatency: 0, accessBandwidth: 3 } as const;

/** §5.2.29.1 */
export const PPTT_NODE = { flags: 4, parent: 8, uid: 12, privateResources: 16, size: 20 } as const;
export const PPTT_TYPE_NODE = 0;
export const PPTT_FLAG = {
  physicalPackage: 1 << 0,
  uidValid: 1 << 1,
  thread: 1 << 2,
  leaf: 1 << 3,
  identical: 1 << 4,
} as const;

/** Serial Port Console Redirection Table, revision 2 (Microsoft, version 1.03) */
export const SPCR = {
  interfaceType: 0x24,
  address: 0x28,
  interruptType: 0x34,
  irq: 0x35,
  gsi: 0x36,
  baudRate: 0x3a,
  stopBits: 0x3c,
  flowControl: 0x3d,
  terminalType: 0x3e,
  pciDevice: 0x40,
  pciVendor: 0x42,
  size: 0x50,
} as const;
