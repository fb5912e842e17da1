/** The signal that gets a vCPU's thread out of KVM_RUN. */
import { putU64, viewOf } from '../binary/bytes.ts';
import { checked, libc, symbolAddress } from './libc.ts';

/** First real-time signal that glibc leaves to programs; the runtime uses none of them. */
const KICK_SIGNAL = 34;

/** struct sigaction of glibc on x86-64. */
const SIGACTION = { handler: 0x00, mask: 0x08, flags: 0x88, restorer: 0x90, size: 0x98 } as const;

let installed = false;

/** Makes the kick signal interrupt system calls (no SA_RESTART) and do nothing else. Once per process. */
export function installKickHandler(): void {
  if (installed) return;
  const action = new Uint8Array(SIGACTION.size);
  // SAFETY: the handler runs on any thread at any time, so no JavaScript may run in it: abs(int) takes the
  // signal number, touches no memory and returns.
  putU64(viewOf(action), SIGACTION.handler, symbolAddress('abs'));
  checked(libc.sigaction(KICK_SIGNAL, action, null), 'sigaction');
  installed = true;
}

/** Interrupts a system call of one thread of this process. A thread that is gone is no error. */
export function kickThread(threadId: number): void {
  libc.tgkill(libc.getpid(), threadId, KICK_SIGNAL);
}
