/** Where the time of a start goes: by phase of a run, and by what is loaded. */
import { join, resolve } from 'node:path';
import { compile } from '../../scripts/build.ts';
import { pvhElf, tinyGuest } from '../guests.ts';
import { compareFirst, measureInTurns, type Figure, type Measurement } from '../measurement.ts';
import { runExpecting, runProcess, type ProcessRun } from '../process-run.ts';
import { quantile } from '../statistics.ts';

/** Of the CPU time of an empty program. */
const INFORMATION_AIM = 1.6;

const EMPTY = 'an empty Bun program';

/** What each program imports. Parts overlap: each has all that it needs itself. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  [EMPTY]: [],
  'node:fs': ['node:fs'],
  commander: ['commander'],
  'ffi/libc.ts': ['src/ffi/libc.ts'],
  'config/config.ts': ['src/config/config.ts'],
  'plan/plan.ts': ['src/plan/plan.ts'],
  'virtio/host/open.ts': ['src/virtio/host/open.ts'],
  'vmm/virtual-machine.ts': ['src/vmm/virtual-machine.ts'],
  'all of volt run': ['src/cli/plain-run.ts'],
  'all of the other commands': ['src/cli/program.ts'],
};

const root = resolve(import.meta.dir, '../..');

export const startAccount: Measurement = {
  id: 'start-account',
  title: 'Where the time of a start goes',
  method:
    'Programs compiled as Volt is, each of which imports one module and exits: CPU time by wait4(2), less that of the empty one. Phases are those of `--timeline`, wall time, for a guest with 1 vCPU that prints one byte.',
  whenMissed:
    'node:fs, with which the text is written and the environment refused, takes most of what is more than an empty program.',
  async run({ vmms, quick, folder, log }) {
    const rounds = quick ? 5 : 40;
    const [volt] = vmms;
    const programs = await compilePrograms(folder, log);
    const loads = await measureInTurns(
      programs.map(({ name, path }) => ({ name, run: () => runExpecting([path], '') })),
      rounds,
    );
    const empty = medianCpu(loads.bySubject.get(EMPTY)!);
    const modules = [...loads.bySubject].map(([name, runs]): Figure => {
      const value = medianCpu(runs) - (name === EMPTY ? 0 : empty);
      return { what: `CPU time, ${name}`, unit: 'ms', value, aim: undefined };
    });

    const executable = volt!.command({ kernel: '', cpus: 1, memoryMib: 256 }, folder)[0]!;
    const comparisons = [];
    for (const flag of ['--version', '--help']) {
      const runs = await measureInTurns(
        [
          { name: `volt ${flag}`, run: () => runExpecting([executable, flag], (text) => text.length > 0) },
          { name: EMPTY, run: () => runExpecting([programs[0]!.path], '') },
        ],
        rounds,
      );
      comparisons.push(
        ...compareFirst(
          runs,
          `CPU time of volt ${flag}`,
          'ms',
          (run) => run.cpuMs,
          () => INFORMATION_AIM,
        ),
      );
    }

    const kernel = join(folder, 'tiny');
    await Bun.write(kernel, pvhElf(tinyGuest()));
    const argv = [...volt!.command({ kernel, cpus: 1, memoryMib: 256 }, folder), '--timeline'];
    const phases = await readPhases(argv, rounds);
    return { comparisons, figures: [...modules, ...phases], skipped: loads.skipped };
  },
};

async function compilePrograms(folder: string, log: (line: string) => void) {
  const programs: { name: string; path: string }[] = [];
  for (const [name, imports] of Object.entries(PROGRAMS)) {
    const source = join(folder, `account-${programs.length}.ts`);
    const path = source.replace(/\.ts$/, '');
    const lines = imports.map((module, i) => {
      const from = module.startsWith('src/') ? join(root, module) : Bun.resolveSync(module, root);
      return `import * as m${i} from ${JSON.stringify(from)}; globalThis.kept${i} = m${i};`;
    });
    await Bun.write(source, [...lines, 'process.exit();'].join('\n'));
    log(`  compiling ${name}`);
    compile([source], path);
    programs.push({ name, path });
  }
  return programs;
}

/** Medians of the time from each phase to the next, in the order of their medians. */
async function readPhases(argv: readonly string[], rounds: number): Promise<Figure[]> {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    const { stderr } = await runProcess(argv);
    for (const [, at, phase] of stderr.matchAll(/^ *([\d.]+) ms {2}(.+)$/gm))
      times.set(phase!, [...(times.get(phase!) ?? []), Number(at)]);
  }
  const rows = [...times].map(([phase, at]) => ({ phase, at: quantile(at, 0.5) }));
  rows.sort((a, b) => a.at - b.at);
  return rows.slice(1).map(({ phase, at }, i) => ({
    what: `wall time until: ${phase}`,
    unit: 'ms',
    value: at - rows[i]!.at,
    aim: undefined,
  }));
}

function medianCpu(runs: readonly ProcessRun[]): number {
  return quantile(
    runs.map(({ cpuMs }) => cpuMs),
    0.5,
  );
}
