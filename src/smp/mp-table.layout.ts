/** MultiProcessor Specification 1.4, chapter 4: offsets, sizes and codes of each structure. */

/** §4.1, table 4-1 */
export const FLOATING_POINTER = {
  signature: 0x00,
  configTable: 0x04,
  paragraphs: 0x08,
  revision: 0x09,
  checksum: 0x0a,
  /** 0: a configuration table is present; otherwise the number of a default configuration. */
  feature1: 0x0b,
  /** Bit 7, IMCRP: set when the IMCR is present and PIC mode is implemented, clear for virtual wire mode. */
  feature2: 0x0c,
  size: 0x10,
} as const;

/** §4.2, table 4-2 */
export const CONFIG_HEADER = {
  signature: 0x00,
  baseLength: 0x04,
  revision: 0x06,
  checksum: 0x07,
  oemId: 0x08,
  productId: 0x10,
  oemTable: 0x1c,
  oemTableBytes: 0x20,
  entryCount: 0x22,
  localApicAddress: 0x24,
  extendedLength: 0x28,
  extendedChecksum: 0x2a,
  reserved: 0x2b,
  size: 0x2c,
} as const;

/** §4.3, table 4-3: the first byte of each base entry. */
export const ENTRY_TYPE = { processor: 0, bus: 1, ioApic: 2, ioInterrupt: 3, localInterrupt: 4 } as const;

/** §4.3.1, table 4-4 */
export const PROCESSOR = {
  type: 0x00,
  apicId: 0x01,
  apicVersion: 0x02,
  flags: 0x03,
  signature: 0x04,
  features: 0x08,
  reserved: 0x0c,
  size: 0x14,
} as const;
export const PROCESSOR_FLAG = { enabled: 1, bootstrap: 2 } as const;

/** §4.3.2, table 4-6 */
export const BUS = { type: 0x00, id: 0x01, name: 0x02, size: 0x08 } as const;

/** §4.3.3, table 4-9 */
export const IO_APIC = {
  type: 0x00,
  id: 0x01,
  version: 0x02,
  flags: 0x03,
  address: 0x04,
  size: 0x08,
} as const;

/** §4.3.4 and §4.3.5, tables 4-10 and 4-12, which share their layout. */
export const INTERRUPT = {
  type: 0x00,
  kind: 0x01,
  flags: 0x02,
  sourceBus: 0x04,
  sourceIrq: 0x05,
  destinationApic: 0x06,
  destinationPin: 0x07,
  size: 0x08,
} as const;

/** §4.3.4, table 4-11 */
export const INTERRUPT_KIND = { int: 0, nmi: 1, smi: 2, extInt: 3 } as const;

/** Of the floating pointer and the configuration table. */
export const REVISION_1_4 = 4;
export const FEATURE2_IMCR = 0x80;
export const SIGNATURE = { floatingPointer: '_MP_', configTable: 'PCMP' } as const;
