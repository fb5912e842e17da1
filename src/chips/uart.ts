/**
 * A 16550A serial port.
 *
 * Deliberate deviations from the datasheet: bytes are sent at once, so the transmitter is always empty, and a
 * console that nobody reads stalls the writing CPU instead; received bytes wait in a ring that is larger than the chip's 16, with the
 * receiver interrupt as long as there is one; the interrupt is not gated by MCR.OUT2, because hobby kernels
 * written against emulators forget it.
 */
import { FCR, IER, IIR, LCR, LSR, MCR, MSR, UART_REGISTER } from './uart.regs.ts';

/** Words of the volatile state, which lies in shared memory behind the bus lock. */
export const UART_WORD = {
  interruptEnable: 0,
  fifoControl: 1,
  lineControl: 2,
  modemControl: 3,
  scratch: 4,
  divisorLow: 5,
  divisorHigh: 6,
  /** 1 while a transmitter-empty interrupt has not been acknowledged. */
  transmitterInterrupt: 7,
  /** Level of the interrupt line as last driven. */
  line: 8,
  /** Received bytes: written at `head`, read at `tail`, both counting on and on. */
  receiveHead: 9,
  receiveTail: 10,
  size: 11,
} as const;

const W = UART_WORD;

/** What the port is wired to; rebuilt by each thread that touches it. */
export interface UartOutputs {
  /** Takes one byte for the console; waits when nobody reads the console, so that no byte is lost. */
  transmit(byte: number): void;
  setInterrupt(level: 0 | 1): void;
}

export interface Uart {
  readonly words: Int32Array;
  /** Ring of received bytes; its length is a power of two. */
  readonly received: Uint8Array;
  readonly outputs: UartOutputs;
}

export function resetUart(words: Int32Array): void {
  words.fill(0);
  words[W.modemControl] = MCR.out2Bit;
  // 115200 baud: what firmware would leave.
  words[W.divisorLow] = 1;
}

export function uartWrite(uart: Uart, register: number, value: number): void {
  const { words } = uart;
  const divisor = (words[W.lineControl]! & LCR.divisorLatchBit) !== 0;
  switch (register) {
    case UART_REGISTER.data:
      if (divisor) words[W.divisorLow] = value;
      else transmit(uart, value);
      break;
    case UART_REGISTER.interruptEnable:
      if (divisor) words[W.divisorHigh] = value;
      else setInterruptEnable(uart, value & IER.mask);
      break;
    case UART_REGISTER.interruptIdentOrFifoControl:
      words[W.fifoControl] = value & FCR.enableBit;
      if (value & FCR.clearReceiverBit) words[W.receiveTail] = words[W.receiveHead]!;
      break;
    case UART_REGISTER.lineControl:
      words[W.lineControl] = value;
      break;
    case UART_REGISTER.modemControl:
      words[W.modemControl] = value & MCR.mask;
      break;
    case UART_REGISTER.scratch:
      words[W.scratch] = value;
      break;
  }
  driveInterrupt(uart);
}

export function uartRead(uart: Uart, register: number): number {
  const { words } = uart;
  const divisor = (words[W.lineControl]! & LCR.divisorLatchBit) !== 0;
  switch (register) {
    case UART_REGISTER.data:
      return divisor ? words[W.divisorLow]! : receiveByte(uart);
    case UART_REGISTER.interruptEnable:
      return divisor ? words[W.divisorHigh]! : words[W.interruptEnable]!;
    case UART_REGISTER.interruptIdentOrFifoControl:
      return identifyInterrupt(uart);
    case UART_REGISTER.lineControl:
      return words[W.lineControl]!;
    case UART_REGISTER.modemControl:
      return words[W.modemControl]!;
    case UART_REGISTER.lineStatus:
      return lineStatus(uart);
    case UART_REGISTER.modemStatus:
      return modemStatus(words[W.modemControl]!);
    default:
      return words[W.scratch]!;
  }
}

/** Takes bytes from outside; returns how many fitted. The caller holds the bus lock. */
export function uartReceive(uart: Uart, bytes: Uint8Array): number {
  const { words, received } = uart;
  const free = received.length - ((words[W.receiveHead]! - words[W.receiveTail]!) | 0);
  const taken = Math.min(free, bytes.length);
  for (let i = 0; i < taken; i++) pushReceived(uart, bytes[i]!);
  driveInterrupt(uart);
  return taken;
}

function transmit(uart: Uart, byte: number): void {
  const { words } = uart;
  if (words[W.modemControl]! & MCR.loopbackBit) {
    if (!receiveRingFull(uart)) pushReceived(uart, byte);
  } else {
    uart.outputs.transmit(byte);
  }
  // A write takes the interrupt back, and the byte's leaving raises it anew: an edge for those who never read IIR. With
  // FIFOs there is one for all that are in them.
  if (words[W.transmitterInterrupt] && !(words[W.fifoControl]! & FCR.enableBit)) takeTransmitterBack(uart);
  words[W.transmitterInterrupt] = 1;
}

function setInterruptEnable(uart: Uart, value: number): void {
  const { words } = uart;
  const turnedOn = value & ~words[W.interruptEnable]!;
  words[W.interruptEnable] = value;
  // Enabling the interrupt while the holding register is empty raises it at once (datasheet §8.4).
  if (turnedOn & IER.transmitterEmptyBit) words[W.transmitterInterrupt] = 1;
}

/** Reading IIR acknowledges the transmitter interrupt, if that is the one it reports. */
function identifyInterrupt(uart: Uart): number {
  const { words } = uart;
  const fifos = words[W.fifoControl]! & FCR.enableBit ? IIR.fifosEnabledMask : 0;
  const pending = pendingInterrupt(words);
  if (pending === IIR.transmitterEmpty) takeTransmitterBack(uart);
  return pending | fifos;
}

function takeTransmitterBack(uart: Uart): void {
  uart.words[W.transmitterInterrupt] = 0;
  driveInterrupt(uart);
}

/** The interrupt that IIR reports, by the datasheet's priorities. */
function pendingInterrupt(words: Int32Array): number {
  const enabled = words[W.interruptEnable]!;
  if (enabled & IER.receivedDataBit && words[W.receiveHead] !== words[W.receiveTail]) return IIR.receivedData;
  if (enabled & IER.transmitterEmptyBit && words[W.transmitterInterrupt]) return IIR.transmitterEmpty;
  return IIR.none;
}

/** The one place that derives the line from the state, and drives it when it changed. */
function driveInterrupt(uart: Uart): void {
  const level = pendingInterrupt(uart.words) === IIR.none ? 0 : 1;
  if (uart.words[W.line] === level) return;
  uart.words[W.line] = level;
  uart.outputs.setInterrupt(level);
}

function lineStatus(uart: Uart): number {
  const ready = uart.words[W.receiveHead] === uart.words[W.receiveTail] ? 0 : LSR.dataReadyBit;
  return ready | LSR.holdingEmptyBit | LSR.transmitterEmptyBit;
}

/** In loopback the modem outputs feed the inputs (datasheet §8.6), by which drivers recognise the chip. */
function modemStatus(modemControl: number): number {
  if (!(modemControl & MCR.loopbackBit)) return MSR.ctsBit | MSR.dsrBit | MSR.carrierBit;
  return (
    (modemControl & MCR.rtsBit ? MSR.ctsBit : 0) |
    (modemControl & MCR.dtrBit ? MSR.dsrBit : 0) |
    (modemControl & MCR.out1Bit ? MSR.ringBit : 0) |
    (modemControl & MCR.out2Bit ? MSR.carrierBit : 0)
  );
}

function receiveByte(uart: Uart): number {
  const { words, received } = uart;
  const tail = words[W.receiveTail]!;
  if (tail === words[W.receiveHead]) return 0;
  words[W.receiveTail] = (tail + 1) | 0;
  const byte = received[tail & (received.length - 1)]!;
  driveInterrupt(uart);
  return byte;
}

function receiveRingFull(uart: Uart): boolean {
  return ((uart.words[W.receiveHead]! - uart.words[W.receiveTail]!) | 0) >= uart.received.length;
}

function pushReceived(uart: Uart, byte: number): void {
  const head = uart.words[W.receiveHead]!;
  uart.received[head & (uart.received.length - 1)] = byte;
  uart.words[W.receiveHead] = (head + 1) | 0;
}
