#!/usr/bin/env bun
/** Entry point of the `volt` executable: checks the environment before any other module is loaded. */
import { writeSync } from 'node:fs';
import './environment.ts';
import { choosePool, POOL_PROCESS } from './pool-choice.ts';

/** EXIT_CODE.failed; api/ is not loaded yet. */
const EXIT_FAILED = 1;

const isPooled = process.argv[2] === POOL_PROCESS;
if (isPooled) {
  const { becomeCaller } = await import('./pool-process.ts').catch(explainLoading);
  await becomeCaller(Number(process.argv[3]));
}
const words = personaWords();
// Not static imports: the bundler would run modules that it shares with other entry points before
// environment.ts.
if (words) {
  const { main } = await import('./firecracker.ts').catch(explainLoading);
  await main(words[0], words[1]);
} else {
  const plain = process.argv.slice(2);
  if (plain.length === 1) {
    const { printIfKnown } = await import('./information.ts');
    await printIfKnown(plain[0]!);
  }
  if (mayBePlain(plain)) {
    const pool = isPooled ? undefined : choosePool(plain);
    if (pool !== undefined) {
      const { runInPool } = await import('./pooled.ts').catch(explainLoading);
      await runInPool(pool, plain);
    }
    const { runIfPlain } = await import('./plain-run.ts').catch(explainLoading);
    await runIfPlain(plain);
  }
  const { main } = await import('./program.ts').catch(explainLoading);
  await main();
}

/** Whether this is `volt run` or `volt restore`, so that commander is not loaded unless its help or its errors are needed. */
function mayBePlain([first = '', ...others]: readonly string[]): boolean {
  const isInformation = (word: string) => ['-h', '--help', '-V', '--version'].includes(word);
  return /^(-|run$|restore$|$)/.test(first) && ![first, ...others].some(isInformation);
}

/** The persona and its words, if Volt was started by its name or with it as the command. */
function personaWords(): readonly [name: string, words: readonly string[]] | undefined {
  const [, , first, ...rest] = process.argv;
  if (first === 'firecracker' || first === 'jailer') return [first, rest];
  const name = /(?:^|\/)(firecracker|jailer|jailed)$/.exec(process.argv0)?.[1];
  return name === undefined ? undefined : [name, process.argv.slice(2)];
}

/** bun:ffi compiles a trampoline for each C function, which needs writable and executable memory. */
function explainLoading(error: unknown): never {
  if (!(error instanceof Error) || !error.message.includes('requires the JIT')) throw error;
  writeSync(
    2,
    'volt: Cannot start: this process may not have executable memory; lift MemoryDenyWriteExecute (systemd), PR_SET_MDWE or ulimit -v\n',
  );
  process.exit(EXIT_FAILED);
}
