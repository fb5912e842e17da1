/** Signals that end a run after the terminal is restored; signals that the parent ignored stay ignored. */
import { readFileSync } from 'node:fs';

/** Signals whose default action terminates a process, and that Volt can handle. (signal(7)) */
export const END_SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGXCPU: 24,
} as const;

export type EndSignal = keyof typeof END_SIGNALS;

/** Signals handled in every run; the others are handled only if there is a terminal to restore. */
const ALWAYS: readonly EndSignal[] = ['SIGHUP', 'SIGINT', 'SIGTERM'];

/**
 * The END_SIGNALS that this process handles, without those that its parent ignored: nohup ignores SIGHUP, a
 * shell's `&` SIGINT and SIGQUIT.
 */
export function handledSignals(hasTerminal: boolean): EndSignal[] {
  const ignored = ignoredSignals();
  const names = hasTerminal ? (Object.keys(END_SIGNALS) as EndSignal[]) : ALWAYS;
  return names.filter((name) => ((ignored >> BigInt(END_SIGNALS[name] - 1)) & 1n) === 0n);
}

/** SigIgn of proc(5): bit n - 1 for signal n. */
function ignoredSignals(): bigint {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  return BigInt(`0x${mask ?? '0'}`);
}
