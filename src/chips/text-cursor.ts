/**
 * The two register pairs of a VGA's CRT controller in which text-mode software keeps its place: where the screen
 * starts and where the cursor is. There is no screen; but kernels that print to video memory read the cursor back,
 * and from all ones, which an empty bus returns, they write behind the video memory (or panic, as xv6 does).
 * (IBM VGA: index 0x3D4, data 0x3D5, registers 0x0C to 0x0F)
 */

export const TEXT_CURSOR_WORD = { index: 0, start: 1, cursor: 2, size: 3 } as const;

const REGISTER = { startHigh: 0x0c, startLow: 0x0d, cursorHigh: 0x0e, cursorLow: 0x0f } as const;

export function selectCrtRegister(words: Int32Array, value: number): void {
  words[TEXT_CURSOR_WORD.index] = value;
}

export function writeCrtRegister(words: Int32Array, value: number): void {
  const at = locate(words[TEXT_CURSOR_WORD.index]!);
  if (at) words[at.word] = (words[at.word]! & ~(0xff << at.shift)) | (value << at.shift);
}

/** Registers of the screen that is not there read as all ones. */
export function readCrtRegister(words: Int32Array): number {
  const at = locate(words[TEXT_CURSOR_WORD.index]!);
  return at ? (words[at.word]! >> at.shift) & 0xff : 0xff;
}

const START_HIGH = { word: TEXT_CURSOR_WORD.start, shift: 8 } as const;
const START_LOW = { word: TEXT_CURSOR_WORD.start, shift: 0 } as const;
const CURSOR_HIGH = { word: TEXT_CURSOR_WORD.cursor, shift: 8 } as const;
const CURSOR_LOW = { word: TEXT_CURSOR_WORD.cursor, shift: 0 } as const;

function locate(register: number) {
  switch (register) {
    case REGISTER.startHigh:
      return START_HIGH;
    case REGISTER.startLow:
      return START_LOW;
    case REGISTER.cursorHigh:
      return CURSOR_HIGH;
    case REGISTER.cursorLow:
      return CURSOR_LOW;
    default:
      return undefined;
  }
}
