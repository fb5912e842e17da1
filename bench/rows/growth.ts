/** How the cost of a start grows with the number of vCPUs. */
import { join } from 'node:path';
import { pvhElf, tinyGuest } from '../guests.ts';
import {
  compareFirst,
  measureInTurns,
  type Comparison,
  type Figure,
  type Measurement,
} from '../measurement.ts';
import { hasGnuTime, peakMemoryMib, runExpecting } from '../process-run.ts';
import { spreadOf } from '../statistics.ts';

const WALL_AIM = 0.5;

export const growth: Measurement = {
  id: 'growth',
  title: 'The same with more vCPUs (256 MiB)',
  method: 'As above with 1, 8, 32 and 64 vCPUs, of which only the first one ever runs.',
  whenMissed:
    'With few vCPUs this is the start of the executable, as above. An AP that nobody starts is a thread of a few instructions and its kvm_run page; what is left of its cost is KVM making it, some JavaScript that is not compiled yet, and its share of the tables. Less would need vCPUs that are made when the guest first sends them an INIT.',
  async run({ vmms, quick, folder, log }) {
    const counts = quick ? [1, 8] : [1, 8, 32, 64];
    const able = vmms.filter(({ id }) => id !== 'kvmtool');
    const kernel = join(folder, 'tiny');
    await Bun.write(kernel, pvhElf(tinyGuest()));
    const comparisons: Comparison[] = [];
    const skipped: string[] = [];
    const points = new Map<string, [number, number][]>();
    const peaks = new Map<string, [number, number][]>();
    for (const cpus of counts) {
      log(`  ${cpus} vCPUs`);
      const subjects = able.map((vmm) => ({
        name: vmm.name,
        argv: vmm.command({ kernel, cpus, memoryMib: 256 }, folder),
      }));
      const times = await measureInTurns(
        subjects.map(({ name, argv }) => ({ name, run: () => runExpecting(argv, 'x') })),
        quick ? 2 : cpus > 8 ? 9 : 15,
      );
      const aim = (peer: string) => (peer.startsWith('QEMU') ? WALL_AIM : undefined);
      comparisons.push(...compareFirst(times, `wall time, ${cpus} vCPUs`, 'ms', (run) => run.wallMs, aim));
      comparisons.push(...compareFirst(times, `CPU time, ${cpus} vCPUs`, 'ms', (run) => run.cpuMs));
      skipped.push(...times.skipped.map((line) => `${cpus} vCPUs: ${line}`));
      for (const [name, runs] of times.bySubject) {
        points.set(name, [
          ...(points.get(name) ?? []),
          [cpus, spreadOf(runs.map((run) => run.wallMs)).median],
        ]);
      }
      if (!hasGnuTime) continue;
      const memory = await measureInTurns(
        subjects
          .filter(({ name }) => times.bySubject.has(name))
          .map(({ name, argv }) => ({ name, run: () => peakMemoryMib(argv, folder) })),
        quick ? 1 : 3,
      );
      comparisons.push(...compareFirst(memory, `peak memory, ${cpus} vCPUs`, 'MiB', (mib) => mib));
      for (const [name, mib] of memory.bySubject) {
        peaks.set(name, [...(peaks.get(name) ?? []), [cpus, spreadOf(mib).median]]);
      }
    }
    const figures = [
      ...slopes(points, 'wall time per further vCPU', 'ms'),
      ...slopes(peaks, 'peak memory per further vCPU', 'MiB'),
    ];
    const lines = [...points].map(([name, list]) => ({ name, points: list }));
    const chart = { title: 'Wall time of a tiny guest', x: 'vCPUs', y: 'ms', lines };
    return { comparisons, figures, skipped, chart };
  },
};

/** From the fewest to the most vCPUs. */
function slopes(
  series: ReadonlyMap<string, readonly [number, number][]>,
  what: string,
  unit: string,
): Figure[] {
  return [...series].map(([name, points]) => {
    const [first, last] = [points[0]!, points.at(-1)!];
    const value = (last[1] - first[1]) / Math.max(1, last[0] - first[0]);
    return { what: `${name}: ${what}`, unit, value, aim: undefined };
  });
}
