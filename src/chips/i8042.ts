/**
 * The keyboard controller of a PC without a keyboard: it passes its self-test, so that no driver waits for it,
 * says that nothing is attached, and pulses the reset line, which is how many kernels reboot.
 * (Intel 8042 as in the IBM PC AT Technical Reference; commands as Linux's i8042 driver uses them)
 */

export const I8042_WORD = { outputFull: 0, output: 1, expects: 2, commandByte: 3, size: 4 } as const;
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
const CLOCK_STUCK = 0x02;
/** Keyboard port disabled, translation on: bits 4 and 6. */
const COMMAND_BYTE_RESET = 0x50;
const OUTPUT_PORT_NOT_RESETTING = 0x01;
/** Commands 0xF0–0xFF pulse output lines low; bit 0 is the CPU's reset and acts when clear. */
const PULSE = 0xf0;
const PULSE_RESET_BIT = 0x01;

export function resetI8042(words: Int32Array): void {
  words.fill(0);
  words[W.commandByte] = COMMAND_BYTE_RESET;
}

/** Port 0x64 written. Returns true when the machine is to be reset. */
export function i8042Command(words: Int32Array, command: number): boolean {
  words[W.expects] = 0;
  if ((command & 0xf0) === PULSE) return (command & PULSE_RESET_BIT) === 0;
  switch (command) {
    case COMMAND.readCommandByte:
      answer(words, words[W.commandByte]!);
      break;
    case COMMAND.selfTest:
      answer(words, SELF_TEST_PASSED);
      break;
    case COMMAND.testKeyboard:
      answer(words, 0);
      break;
    case COMMAND.testAuxiliary:
      answer(words, CLOCK_STUCK);
      break;
    case COMMAND.readOutputPort:
      answer(words, OUTPUT_PORT_NOT_RESETTING);
      break;
    case COMMAND.writeCommandByte:
    case COMMAND.writeOutputPort:
    case COMMAND.writeAuxiliaryLoop:
    case COMMAND.writeAuxiliary:
      words[W.expects] = command;
      break;
  }
  return false;
}

/** Port 0x60 written. Returns true when the machine is to be reset. */
export function i8042Data(words: Int32Array, value: number): boolean {
  const expected = words[W.expects]!;
  words[W.expects] = 0;
  if (expected === COMMAND.writeCommandByte) words[W.commandByte] = value;
  // There is no auxiliary port: the loop test fails, and so kernels do not look for a mouse.
  if (expected === COMMAND.writeAuxiliaryLoop) answer(words, CLOCK_STUCK);
  return expected === COMMAND.writeOutputPort && (value & OUTPUT_PORT_NOT_RESETTING) === 0;
}

export function i8042ReadStatus(words: Int32Array): number {
  return STATUS_SYSTEM | (words[W.outputFull] ? STATUS_OUTPUT_FULL : 0);
}

export function i8042ReadData(words: Int32Array): number {
  words[W.outputFull] = 0;
  return words[W.output]!;
}

function answer(words: Int32Array, value: number): void {
  words[W.output] = value;
  words[W.outputFull] = 1;
}
