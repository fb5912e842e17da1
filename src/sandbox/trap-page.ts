/** Layout of the mapping of the SIGSYS handler: a page of code, then data. */
export const TRAP_PAGE = {
  code: 0x0000,
  /** From here on: readable and writable. */
  data: 0x1000,
  /** u32: 1 if the handler restores `termios` on fd 0. */
  restoresTerminal: 0x1000,
  /** struct termios of the kernel, 36 bytes. */
  termios: 0x1008,
  /** i32: the last error of a call of the table, negated errno; 0 without one. */
  error: 0x1048,
  /** u32: number of threads that have made the calls of the table. */
  done: 0x104c,
  /** Three `struct iovec`: the text before the call's name, the name, the text after it. */
  message: 0x1050,
  /** Rows of a number and five arguments, u64 each; a negative number ends the table. */
  calls: 0x1080,
  texts: 0x1400,
  /** Two u32 for each call's number: the offset of its name from here, and its length. */
  names: 0x1800,
  nameTexts: 0x2800,
  size: 0x5000,
} as const;

export const CALL_ROW = { number: 0, arguments: 8, size: 48 } as const;
