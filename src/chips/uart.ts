/**
 * A 16550A serial port. (National Semiconductor PC16550D datasheet, June 1995)
 *
 * Deliberate deviations from the datasheet:
 * - Bytes are sent at once, so the transmitter is always empty; if nobody reads the console, the writing vCPU
 *   waits.
 * - The receiver FIFO is larger than 16 bytes and has no trigger level: the received data interrupt is
 *   pending as long as it holds a byte.
 * - MCR.OUT2 does not gate the interrupt, because small kernels that were written for emulators do not set
 *   it.
 */
import { FCR, IER, IIR, LCR, LSR, MCR, MSR, UART_REGISTER } from './uart.regs.ts';

/** Words of the volatile state, which is in shared memory and protected by the bus lock. */
export const UART_WORD = {
  interruptEnable: 0,
  fifoControl: 1,
  lineControl: 2,
  modemControl: 3,
  scratch: 4,
  divisorLow: 5,
  divisorHigh: 6,
  /** 1 while the THRE interrupt is pending. */
  threInterrupt: 7,
  /** Level of the interrupt output. */
  line: 8,
  /** Bytes ever put into and taken from the receiver FIFO, modulo 2^32. */
  receiveHead: 9,
  receiveTail: 10,
  size: 11,
} as const;

const W = UART_WORD;

/** What the port is connected to. Each thread that accesses the port creates its own. */
export interface UartOutputs {
  /** Sends one byte to the console; blocks while the console is full, so that no byte is lost. */
  transmit(byte: number): void;
  setInterrupt(level: 0 | 1): void;
}

export interface Uart {
  readonly words: Int32Array;
  /** The receiver FIFO as a ring; its length is a power of two. */
  readonly received: Uint8Array;
  readonly outputs: UartOutputs;
}

export function resetUart(words: Int32Array): void {
  words.fill(0);
  words[W.modemControl] = MCR.out2Bit;
  // 115200 baud, as firmware would have set it.
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

/** Receives bytes from the console; returns how many fitted into the FIFO. The caller holds the bus lock. */
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
  // Writing THR clears the pending THRE interrupt, and THR is empty again at once, which sets it (§8.6). The
  // line must fall in between: an edge-triggered guest that never reads IIR waits for the next edge. With
  // FIFOs enabled THRE is set once the whole FIFO is empty.
  if (words[W.threInterrupt] && !(words[W.fifoControl]! & FCR.enableBit)) clearThreInterrupt(uart);
  words[W.threInterrupt] = 1;
}

function setInterruptEnable(uart: Uart, value: number): void {
  const { words } = uart;
  const enabled = value & ~words[W.interruptEnable]!;
  words[W.interruptEnable] = value;
  // Enabling the THRE interrupt while THR is empty makes it pending at once. (§8.7; §8.6, table IV)
  if (enabled & IER.transmitterEmptyBit) words[W.threInterrupt] = 1;
}

/** Value of IIR. Reading it clears the THRE interrupt if that is the one it reports. (§8.6, table IV) */
function identifyInterrupt(uart: Uart): number {
  const { words } = uart;
  const fifos = words[W.fifoControl]! & FCR.enableBit ? IIR.fifosEnabledMask : 0;
  const pending = pendingInterrupt(words);
  if (pending === IIR.transmitterEmpty) clearThreInterrupt(uart);
  return pending | fifos;
}

function clearThreInterrupt(uart: Uart): void {
  uart.words[W.threInterrupt] = 0;
  driveInterrupt(uart);
}

/** The pending interrupt of the highest priority, as IIR reports it. (§8.6, table IV) */
function pendingInterrupt(words: Int32Array): number {
  const enabled = words[W.interruptEnable]!;
  if (enabled & IER.receivedDataBit && words[W.receiveHead] !== words[W.receiveTail]) return IIR.receivedData;
  if (enabled & IER.transmitterEmptyBit && words[W.threInterrupt]) return IIR.transmitterEmpty;
  return IIR.none;
}

/** Derives the interrupt output from the state and drives it if it changed. */
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

/**
 * In loopback mode the modem control outputs are the modem status inputs (§8.8); drivers detect the chip by
 * that.
 */
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
