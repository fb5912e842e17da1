/** Signal handlers that are machine code, and the signal that gets a vCPU's thread out of KVM_RUN. */
import { putU64, viewOf } from '../binary/bytes.ts';
import { checked, libc, symbolAddress, type HostPointer } from './libc.ts';

/** The first real-time signal that glibc leaves to programs (SIGRTMIN); Bun uses no real-time signal. */
const KICK_SIGNAL = 34;

/** struct sigaction of glibc on x86-64. (bits/sigaction.h) */
export const SIGACTION = { handler: 0x00, mask: 0x08, flags: 0x88, restorer: 0x90, size: 0x98 } as const;

/** (asm/signal.h) */
export const SIGNAL_ACTION = { sigInfo: 4, restart: 0x1000_0000, noDefer: 0x4000_0000 } as const;

let installed = false;

/**
 * sigaction(2) with an empty mask; `flags` are bits of SIGNAL_ACTION. Throws SyscallError.
 * SAFETY: the handler runs on any thread at any time, so `handler` must be machine code that stays mapped for
 * the life of the process and runs no JavaScript.
 */
export function installSignalHandler(signal: number, handler: HostPointer, flags: number): void {
  const action = new Uint8Array(SIGACTION.size);
  putU64(viewOf(action), SIGACTION.handler, handler);
  viewOf(action).setUint32(SIGACTION.flags, flags, true);
  checked(libc.sigaction(signal, action, null), 'sigaction');
}

/**
 * Makes the kick signal interrupt system calls (no SA_RESTART) and do nothing else. Once per process. Throws
 * SyscallError.
 */
export function installKickHandler(): void {
  if (installed) return;
  // SAFETY: abs(int) takes the signal number in its register, touches no memory and returns.
  installSignalHandler(KICK_SIGNAL, symbolAddress('abs'), 0);
  installed = true;
}

/**
 * Interrupts a system call of one thread of this process, by tgkill(2). Does nothing for a thread that has
 * ended.
 */
export function kickThread(threadId: number): void {
  libc.tgkill(libc.getpid(), threadId, KICK_SIGNAL);
}

/** SIG_DFL and SIG_IGN. (asm-generic/signal-defs.h) */
const DISPOSITION = { default: 0, ignored: 1 } as const;

/** Makes this process ignore a signal, or treat it as a new program does. Throws SyscallError. */
export function setDisposition(signal: number, to: keyof typeof DISPOSITION): void {
  const action = new Uint8Array(SIGACTION.size);
  putU64(viewOf(action), SIGACTION.handler, DISPOSITION[to]);
  // SAFETY: the kernel reads one struct sigaction during the call; the handler is no address.
  checked(libc.sigaction(signal, action, null), 'sigaction');
}
