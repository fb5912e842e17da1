/** `volt run`, `volt` without a command, and `volt restore DIR`, where the words need no commander. */
import { fail } from './fail.ts';
import { parsePlainly, type FlagGroup } from './flags.ts';
import { createLog } from './log.ts';
import type { RestoreFlags } from './restore.ts';
import { MACHINE_FLAGS, RUN_FLAGS } from './run-flags.ts';
import { run, type RunFlags } from './run.ts';

/** Runs the command line and exits; returns if only commander can say what the words mean. */
export async function runIfPlain(words: readonly string[]): Promise<void> {
  const action = words[0] === 'restore' ? await readRestore(words.slice(1)) : readRun(words);
  if (!action) return;
  try {
    process.exitCode = await action();
  } catch (error) {
    process.exitCode = fail(error);
  }
  process.exit();
}

/** Reads command lines of both commands, for a process of a pool: what has run once runs faster. */
export async function rehearsePlainly(): Promise<void> {
  const words = ['--cpu-affinity', '0=0', '--reboot', 'always', '--console=none', '--timeline'];
  readRun(['--cpus', '2', '--memory', '64M', '--kernel', 'vmlinux', ...words]);
  await readRestore(['directory', ...words]);
  createLog('warn');
}

type Action = () => Promise<number>;

function readRun(words: readonly string[]): Action | undefined {
  const flags = readFlags([...MACHINE_FLAGS, ...RUN_FLAGS], words[0] === 'run' ? words.slice(1) : words);
  return flags && (() => run(flags as unknown as RunFlags));
}

/** The directory comes first. */
async function readRestore([directory = '', ...words]: readonly string[]): Promise<Action | undefined> {
  if (directory === '' || directory.startsWith('-')) return undefined;
  const [{ RESTORE_FLAGS }, { restore }] = await Promise.all([
    import('./restore-flags.ts'),
    import('./restore.ts'),
  ]);
  const flags = readFlags(RESTORE_FLAGS, words);
  return flags && (() => restore(directory, flags as unknown as RestoreFlags));
}

function readFlags(groups: readonly FlagGroup[], words: readonly string[]) {
  try {
    return parsePlainly(groups, words);
  } catch {
    // A wrong value: commander reports it with the name of its flag.
    return undefined;
  }
}
