/** The calling thread: its name and short sleeps. */
import { addressOf, asPointer, cString, libc } from './libc.ts';

/** (linux/prctl.h) */
export const PR_SET_NAME = 15;

/**
 * Names the calling thread for ps -L, top -H and gdb; Linux keeps the first 15 bytes. (PR_SET_NAME(2const))
 */
export function setThreadName(name: string): void {
  const text = cString(name);
  // SAFETY: the kernel copies the string during the call, which `text` outlives.
  libc.prctl(PR_SET_NAME, asPointer(addressOf(text)), 0, 0, 0);
}

/**
 * Blocks the calling thread for at least `microseconds`. Timers of the event loop are too coarse for that.
 */
export function pauseThread(microseconds: number): void {
  libc.usleep(microseconds);
}
