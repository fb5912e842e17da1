/** `volt firecracker …`, `volt jailer …`, and Volt started under these names. Loaded only then. */
import { runFirecracker } from '../api/firecracker/persona.ts';

/** Runs the command line behind the name, and exits. `jailed` is the first process of a jail's PID namespace. */
export async function main(persona: string, words: readonly string[]): Promise<never> {
  // Also of callbacks of the event loop: no stack trace reaches a user.
  process.on('uncaughtException', (error) => void exitWith(error));
  try {
    if (persona === 'firecracker') process.exit(await runFirecracker(words));
    const { runJailed, runJailer } = await import('../api/firecracker/jailer.ts');
    if (persona === 'jailed') runJailed(words);
    process.exit(runJailer(words));
  } catch (error) {
    return exitWith(error);
  }
}

async function exitWith(error: unknown): Promise<never> {
  const { fail } = await import('./fail.ts');
  process.exit(fail(error));
}
