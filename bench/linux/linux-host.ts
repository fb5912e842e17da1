/** Where the Linux guests of the bench run: this machine, if its KVM can; otherwise a nested host. */
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { runsLinuxHere } from '../../scripts/linux-capable.ts';
import { startNestedHost } from '../../scripts/nested-host.ts';
import type { Context, Samples } from '../measurement.ts';
import type { GuestRun, TurnsPlan, TurnsResult } from './run-turns.ts';

const RUNNER = resolve(import.meta.dir, 'run-turns.ts');
/** For hangs only. */
const SECONDS = 7200;

/** For the method of a row. */
export const WHERE =
  'Where the KVM at hand cannot run Linux, in a nested host of one emulated CPU, where an exit costs 10 to 20 times what it does on hardware; the clock is that of the host that the VMM runs on.';

/** Why Linux guests are left out of the quick form here; undefined where they need not be. */
export function whyNotQuick({ quick }: Context): string | undefined {
  if (!quick || runsLinuxHere()) return undefined;
  return 'Linux guests: here they need an emulated host, and minutes; the full form measures them';
}

/** Carries out each of several plans, one after the other in one host. */
export async function runTurns<Case extends string>(
  plans: Readonly<Record<Case, TurnsPlan>>,
  { folder, log }: Context,
  modules: readonly string[] = [],
): Promise<Map<Case, Samples<GuestRun>>> {
  const cases = (Object.keys(plans) as Case[]).map((name, i) => {
    const file = join(folder, `turns-${i}.json`);
    writeFileSync(file, JSON.stringify(plans[name]));
    return {
      name,
      argv: [process.execPath, RUNNER, file],
      words: plans[name].subjects.flatMap(({ argv }) => argv),
    };
  });
  const paths = cases.flatMap(({ words }) => words).filter((word) => word.startsWith('/'));
  const visiblePaths = [folder, ...new Set(paths.map((path) => dirname(path)))];
  await using host = runsLinuxHere() ? undefined : await startNestedHost({ cpus: 1, modules, visiblePaths });
  const results = new Map<Case, Samples<GuestRun>>();
  for (const { name, argv } of cases) {
    log(`  ${name}`);
    const { exitCode, stdout, stderr } = host
      ? await host.run(argv, { timeoutSeconds: SECONDS })
      : await runHere(argv);
    if (exitCode !== 0) throw new Error(stderr.trim().split('\n').at(-1));
    for (const line of stderr.split('\n').filter(Boolean)) log(`  ${line}`);
    const { bySubject, skipped } = JSON.parse(stdout) as TurnsResult;
    results.set(name, { bySubject: new Map(bySubject), skipped });
  }
  return results;
}

async function runHere(argv: readonly string[]) {
  const child = Bun.spawn([...argv], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, stdout, stderr };
}
