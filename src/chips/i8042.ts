/**
 * An 8042 keyboard controller without keyboard and mouse. It passes its self-test, so that drivers do not
 * wait for it, reports no attached device, and pulses the CPU's reset line, by which many kernels reboot.
 * (Intel 8042 as in the IBM PC AT Technical Reference; commands: Linux drivers/input/serio/i8042.h)
 */

/** `awaitedFor`: the command whose data byte port 0x60 awaits; 0 if none. */
export const I8042_WORD = { outputFull: 0, output: 1, awaitedFor: 2, commandByte: 3, size: 4 } as const;
const W = I8042_WORD;

const STATUS_OUTPUT_FULL = 0x01;
const STATUS_SYSTEM = 0x04;

const COMMAND = {
  readCommandByte: 0x20,
  writeCommandByte: 0x60,
  testAuxiliary: 0xa9,
  selfTest: 0xaa,
  testKeyboard: 0xab,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  writeAuxiliaryLoop: 0xd3,
  writeAuxiliary: 0xd4,
} as const;

const SELF_TEST_PASSED = 0x55;
/** Result of a port test: the clock line is stuck high, as with nothing attached. */
const CLOCK_STUCK_HIGH = 0x02;
/** Bit 4, keyboard disabled; bit 6, translation. */
const COMMAND_BYTE_RESET = 0x50;
const COMMAND_BYTE_INTERRUPT_BIT = 0x01;
const COMMAND_BYTE_TRANSLATION_BIT = 0x40;
/** Bit 0 of the output port: clear resets the CPU. */
const OUTPUT_PORT_RESET_BIT = 0x01;
/** Commands 0xF0–0xFF pulse the output lines whose bits are clear; bit 0 is the CPU's reset line. */
const PULSE = 0xf0;
const PULSE_RESET_BIT = 0x01;

export function resetI8042(words: Int32Array): void {
  words.fill(0);
  words[W.commandByte] = COMMAND_BYTE_RESET;
}

/** Port 0x64 written. Returns true if it resets the machine. */
export function i8042Command(words: Int32Array, command: number): boolean {
  words[W.awaitedFor] = 0;
  if ((command & 0xf0) === PULSE) return (command & PULSE_RESET_BIT) === 0;
  switch (command) {
    case COMMAND.readCommandByte:
      setOutput(words, words[W.commandByte]!);
      break;
    case COMMAND.selfTest:
      setOutput(words, SELF_TEST_PASSED);
      break;
    case COMMAND.testKeyboard:
      setOutput(words, 0);
      break;
    case COMMAND.testAuxiliary:
      setOutput(words, CLOCK_STUCK_HIGH);
      break;
    case COMMAND.readOutputPort:
      setOutput(words, OUTPUT_PORT_RESET_BIT);
      break;
    case COMMAND.writeCommandByte:
    case COMMAND.writeOutputPort:
    case COMMAND.writeAuxiliaryLoop:
    case COMMAND.writeAuxiliary:
      words[W.awaitedFor] = command;
      break;
  }
  return false;
}

/** Port 0x60 written. Returns true if it resets the machine. */
export function i8042Data(words: Int32Array, value: number): boolean {
  const command = words[W.awaitedFor]!;
  words[W.awaitedFor] = 0;
  if (command === COMMAND.writeCommandByte) words[W.commandByte] = value;
  // There is no auxiliary port: the loopback test fails, so drivers do not probe for a mouse.
  if (command === COMMAND.writeAuxiliaryLoop) setOutput(words, CLOCK_STUCK_HIGH);
  return command === COMMAND.writeOutputPort && (value & OUTPUT_PORT_RESET_BIT) === 0;
}

/** Whether a byte for the driver waits to be read. */
export function i8042IsFull(words: Int32Array): boolean {
  return words[W.outputFull] !== 0;
}

/** A key's code has arrived. Returns whether it interrupts the driver. */
export function i8042Key(words: Int32Array, code: number): boolean {
  setOutput(words, code);
  return (words[W.commandByte]! & COMMAND_BYTE_INTERRUPT_BIT) !== 0;
}

/** Make codes of Ctrl, Alt and Delete, in the set that the driver expects: set 1 while it has them translated. */
export function ctrlAltDelete(words: Int32Array): readonly number[] {
  const isTranslated = (words[W.commandByte]! & COMMAND_BYTE_TRANSLATION_BIT) !== 0;
  return isTranslated ? [0x1d, 0x38, 0xe0, 0x53] : [0x14, 0x11, 0xe0, 0x71];
}

export function i8042ReadStatus(words: Int32Array): number {
  return STATUS_SYSTEM | (words[W.outputFull] ? STATUS_OUTPUT_FULL : 0);
}

export function i8042ReadData(words: Int32Array): number {
  words[W.outputFull] = 0;
  return words[W.output]!;
}

function setOutput(words: Int32Array, value: number): void {
  words[W.output] = value;
  words[W.outputFull] = 1;
}
