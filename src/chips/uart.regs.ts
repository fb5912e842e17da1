/** Registers of the 16550A, as its datasheet lists them (National Semiconductor PC16550D, tables 2 and 3). */

/** Offsets from the base port. Two of them change meaning with LCR.DLAB. */
export const UART_REGISTER = {
  /** RBR when read, THR when written; with DLAB the low divisor byte. */
  data: 0,
  /** IER; with DLAB the high divisor byte. */
  interruptEnable: 1,
  /** IIR when read, FCR when written. */
  interruptIdentOrFifoControl: 2,
  lineControl: 3,
  modemControl: 4,
  lineStatus: 5,
  modemStatus: 6,
  scratch: 7,
} as const;

export const IER = {
  receivedDataBit: 0x01,
  transmitterEmptyBit: 0x02,
  lineStatusBit: 0x04,
  modemStatusBit: 0x08,
  mask: 0x0f,
} as const;
export const IIR = {
  none: 0x01,
  transmitterEmpty: 0x02,
  receivedData: 0x04,
  fifosEnabledMask: 0xc0,
} as const;
export const FCR = { enableBit: 0x01, clearReceiverBit: 0x02 } as const;
export const LCR = { divisorLatchBit: 0x80 } as const;
export const MCR = {
  dtrBit: 0x01,
  rtsBit: 0x02,
  out1Bit: 0x04,
  out2Bit: 0x08,
  loopbackBit: 0x10,
  mask: 0x1f,
} as const;
export const LSR = { dataReadyBit: 0x01, holdingEmptyBit: 0x20, transmitterEmptyBit: 0x40 } as const;
export const MSR = { ctsBit: 0x10, dsrBit: 0x20, ringBit: 0x40, carrierBit: 0x80 } as const;
