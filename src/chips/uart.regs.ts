/**
 * Registers of the 16550A. (National Semiconductor PC16550D datasheet, June 1995, table II, "Summary of
 * Registers", and the sections of chapter 8 that each group names)
 */

/** Offsets from the base port. LCR.DLAB selects between two registers at offsets 0 and 1. */
export const UART_REGISTER = {
  /** RBR when read, THR when written; with DLAB set, DLL, the low divisor byte. */
  data: 0,
  /** IER; with DLAB set, DLM, the high divisor byte. */
  interruptEnable: 1,
  /** IIR when read, FCR when written. */
  interruptIdentOrFifoControl: 2,
  lineControl: 3,
  modemControl: 4,
  lineStatus: 5,
  modemStatus: 6,
  scratch: 7,
} as const;

/** §8.7, Interrupt Enable Register */
export const IER = {
  receivedDataBit: 0x01,
  transmitterEmptyBit: 0x02,
  lineStatusBit: 0x04,
  modemStatusBit: 0x08,
  mask: 0x0f,
} as const;
/** §8.6, Interrupt Identification Register; codes of bits 3–0 */
export const IIR = {
  none: 0x01,
  transmitterEmpty: 0x02,
  receivedData: 0x04,
  fifosEnabledMask: 0xc0,
} as const;
/** §8.5, FIFO Control Register */
export const FCR = { enableBit: 0x01, clearReceiverBit: 0x02 } as const;
/** §8.1, Line Control Register */
export const LCR = { divisorLatchBit: 0x80 } as const;
/** §8.8, Modem Control Register */
export const MCR = {
  dtrBit: 0x01,
  rtsBit: 0x02,
  out1Bit: 0x04,
  out2Bit: 0x08,
  loopbackBit: 0x10,
  mask: 0x1f,
} as const;
/** §8.4, Line Status Register */
export const LSR = { dataReadyBit: 0x01, holdingEmptyBit: 0x20, transmitterEmptyBit: 0x40 } as const;
/** §8.9, Modem Status Register */
export const MSR = { ctsBit: 0x10, dsrBit: 0x20, ringBit: 0x40, carrierBit: 0x80 } as const;
