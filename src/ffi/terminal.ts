/** The terminal's raw mode, and who owns the terminal. */
import { libc } from './libc.ts';

/** struct termios of glibc on x86-64 is 60 bytes. */
const TERMIOS_BYTES = 60;
const TCSANOW = 0;

export function isTerminal(fd: number): boolean {
  return libc.isatty(fd) === 1;
}

/** Whether this process may read `fd`'s terminal and change its mode without being stopped by job control. */
export function isForeground(fd: number): boolean {
  return libc.tcgetpgrp(fd) === libc.getpgrp();
}

/** Puts the terminal into raw mode; returns what restores it, or undefined when `fd` is no terminal. */
export function enterRawMode(fd: number): (() => void) | undefined {
  const saved = new Uint8Array(TERMIOS_BYTES);
  if (libc.tcgetattr(fd, saved) !== 0) return undefined;
  const raw = saved.slice();
  libc.cfmakeraw(raw);
  if (libc.tcsetattr(fd, TCSANOW, raw) !== 0) return undefined;
  return () => {
    libc.tcsetattr(fd, TCSANOW, saved);
  };
}
