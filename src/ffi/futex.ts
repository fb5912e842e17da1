/** Wakes threads without JavaScript, which wait by futex(2): Atomics.notify reaches JavaScript alone. */
import { libc, type HostPointer } from './libc.ts';

export const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
/** The futex is in memory of this process alone. */
export const FUTEX_PRIVATE = 128;

const SYS_FUTEX = 202;

/** Wakes the one thread that waits for the word at `address`, if it does. */
export function wakeFutex(address: HostPointer): void {
  // SAFETY: the kernel does not access the word for FUTEX_WAKE, only its address is looked up.
  libc.syscall(SYS_FUTEX, address, FUTEX_PRIVATE | FUTEX_WAKE, 1, 0, 0, 0);
}
