/** `volt run` and `volt restore` where a pool runs: one of its processes becomes the guest's. */
import { awaitPooled, startPooled } from '../api/pool/client.ts';
import { writeStderr } from './output.ts';

/** Signals that are passed on; those that this process ignores are ignored there too. */
const PASSED_ON = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGTERM',
  'SIGXCPU',
  'SIGCONT',
] as const;
/** That of a process that was killed by SIGKILL. */
const EXIT_KILLED = 137;

/** Exits with the guest's exit code; returns if no process of the pool can stand in for this one. */
export async function runInPool(socket: string, words: readonly string[]): Promise<void> {
  const guest = startPooled(socket, words);
  if (!guest) return;
  for (const signal of PASSED_ON) process.on(signal, () => passOn(guest.pid, signal));
  const code = await awaitPooled(guest);
  if (code === undefined)
    writeStderr("volt: Cannot continue: the guest's process was killed; start it again\n");
  process.exit(code ?? EXIT_KILLED);
}

function passOn(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}
