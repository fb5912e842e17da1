/** `volt run`, and `volt` without a command, where the words need no commander. */
import { fail } from './fail.ts';
import { parsePlainly } from './flags.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from './run-flags.ts';
import { run, type RunFlags } from './run.ts';

/** Runs the command line and exits; returns if only commander can say what the words mean. */
export async function runIfPlain(words: readonly string[]): Promise<void> {
  const flags = readRunFlags(words[0] === 'run' ? words.slice(1) : words);
  if (!flags) return;
  try {
    process.exitCode = await run(flags);
  } catch (error) {
    process.exitCode = fail(error);
  }
  process.exit();
}

function readRunFlags(words: readonly string[]): RunFlags | undefined {
  try {
    return parsePlainly([...MACHINE_FLAGS, ...RUN_FLAGS], words) as RunFlags | undefined;
  } catch {
    // A wrong value: commander reports it with the name of its flag.
    return undefined;
  }
}
