/** Where everything is in the mapping of the SIGSYS handler. */
/** The mapping: a page of code, then data. */
export const TRAP_PAGE = {
  code: 0x0000,
  /** From here on: readable and writable. */
  data: 0x1000,
  /** u32: 1 when `termios` is to be restored on fd 0. */
  restoresTerminal: 0x1000,
  /** struct termios of the kernel, 36 bytes. */
  termios: 0x1008,
  /** i32: the last error of a call of the table, negated errno; 0 without one. */
  error: 0x1048,
  /** u32: how many threads have been through the table. */
  done: 0x104c,
  /** Three struct iovec: what is said before the name of the call, the name, what is said after it. */
  message: 0x1050,
  /** Rows of number and five arguments, u64 each, up to one with a negative number. */
  calls: 0x1080,
  texts: 0x1400,
  /** Two u32 by number of the call: where its name is, from here, and its length. */
  names: 0x1800,
  nameTexts: 0x2800,
  size: 0x5000,
} as const;

export const CALL_ROW = { number: 0, arguments: 8, size: 48 } as const;
