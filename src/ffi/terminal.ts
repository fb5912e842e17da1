/** Raw mode and the foreground process group of a terminal. (termios(3), tcgetpgrp(3)) */
import { libc } from './libc.ts';

/** struct termios of glibc on x86-64 is 60 bytes. */
const TERMIOS_BYTES = 60;
const TCSANOW = 0;

export function isTerminal(fd: number): boolean {
  return libc.isatty(fd) === 1;
}

/**
 * Whether this process is in the foreground process group of `fd`'s terminal, so that job control does not
 * stop it.
 */
export function isForeground(fd: number): boolean {
  return libc.tcgetpgrp(fd) === libc.getpgrp();
}

/**
 * Enters raw mode. Returns a function that restores the old mode, or undefined when `fd` is not a terminal.
 */
export function enterRawMode(fd: number): (() => void) | undefined {
  // SAFETY: libc accesses one struct termios during each call.
  const saved = new Uint8Array(TERMIOS_BYTES);
  if (libc.tcgetattr(fd, saved) !== 0) return undefined;
  const raw = saved.slice();
  libc.cfmakeraw(raw);
  if (libc.tcsetattr(fd, TCSANOW, raw) !== 0) return undefined;
  return () => {
    libc.tcsetattr(fd, TCSANOW, saved);
  };
}
