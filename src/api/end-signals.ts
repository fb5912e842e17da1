/** Signals that end a run, with the terminal restored; those that a parent had ignored stay ignored. */
import { readFileSync } from 'node:fs';

/** Signals whose default action ends a process, and that Volt can handle. (signal(7)) */
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

/** Those that end a run in order; the others matter only to whoever has a terminal to restore. */
const ALWAYS: readonly EndSignal[] = ['SIGHUP', 'SIGINT', 'SIGTERM'];

/**
 * Those of END_SIGNALS that this process handles. It ignores what its parent had ignored: nohup ignores SIGHUP, a shell's
 * `&` SIGINT and SIGQUIT.
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
