/** What an exit from the guest costs, by the guest's own clock, against the shortest loop around KVM_RUN in C. */
import { join, resolve } from 'node:path';
import { LAYOUT } from '../../src/machine/layout.ts';
import { access, exitGuest, pvhElf } from '../guests.ts';
import {
  compareFirst,
  measureInTurns,
  type Comparison,
  type Figure,
  type Measurement,
  type Subject,
} from '../measurement.ts';
import { runExpecting } from '../process-run.ts';
import { quantile, spreadOf } from '../statistics.ts';

const AIM = 1.05;
const SCRATCH_REGISTER = 0x3ff;
/** A port of no device, used for delays. */
const DELAY_PORT = 0x80;

const ACCESSES = [
  { name: 'PIO write, no device', code: access.out8(DELAY_PORT), flags: [] },
  { name: 'PIO write, UART scratch register', code: access.out8(SCRATCH_REGISTER), flags: [] },
  { name: 'PIO read, UART scratch register', code: access.in8(SCRATCH_REGISTER), flags: [] },
  { name: 'MMIO write, no device', code: access.writeMmio(LAYOUT.mmioHole.address), flags: [] },
  { name: 'MMIO read, virtio register', code: access.readMmio(LAYOUT.virtio.address), flags: ['--rng'] },
];

export const exitCost: Measurement = {
  id: 'exit-cost',
  title: 'One exit from the guest',
  method:
    'The guest reads its TSC before and after each access and prints all differences; a sample is the median of one run. The C loop (bench/exit-loop.c) does nothing with any exit but those of the console. Peers are shown where they have the same device.',
  whenMissed:
    "What Volt adds to an exit is 0.3 to 0.4 µs: the bus lock, the dispatch by port, the conversion of values, and an engine's code and data coming back into caches after each exit. It shows the more, the cheaper an exit is on the host. Less would need a loop of machine code that answers the most frequent ports itself.",
  async run({ vmms, quick, folder, log }) {
    const samples = quick ? 2_000 : 10_000;
    const skipped: string[] = [];
    const comparisons: Comparison[] = [];
    const figures: Figure[] = [];
    const loop = buildLoop(folder);
    if (loop === undefined) skipped.push('bare C loop: no gcc on the PATH');
    const rivals = vmms.filter(({ id }) => ['volt', 'baseline', 'qemu'].includes(id));
    for (const { name, code, flags } of ACCESSES) {
      log(`  ${name}`);
      const guestCode = exitGuest(samples, code);
      const kernel = join(folder, 'exits');
      const flat = join(folder, 'exits.bin');
      await Bun.write(kernel, pvhElf(guestCode));
      await Bun.write(flat, guestCode);
      const machine = { kernel, cpus: 1, memoryMib: 64 };
      const subjects: Subject<number[]>[] = rivals
        .filter(({ id }) => flags.length === 0 || id !== 'qemu')
        .map((vmm) => {
          const argv = vmm.command(machine, folder);
          return {
            name: vmm.name,
            run: () => sampleExits([...argv, ...(vmm.id === 'qemu' ? [] : flags)], samples),
          };
        });
      if (loop !== undefined)
        subjects.push({ name: 'bare C loop', run: () => sampleExits([loop, flat], samples) });
      const measured = await measureInTurns(subjects, quick ? 2 : 9);
      const aim = (peer: string) => (peer === 'bare C loop' ? AIM : undefined);
      comparisons.push(...compareFirst(measured, name, 'TSC cycles', (run) => quantile(run, 0.5), aim));
      skipped.push(...measured.skipped.map((line) => `${name}: ${line}`));
      if (name !== ACCESSES[0]!.name) continue;
      for (const [subject, runs] of measured.bySubject) {
        for (const percentile of [99, 99.9]) {
          const value = spreadOf(runs.map((run) => quantile(run, percentile / 100))).median;
          figures.push({
            what: `${subject}: ${name}, p${percentile}`,
            unit: 'TSC cycles',
            value,
            aim: undefined,
          });
        }
      }
    }
    return { comparisons, figures, skipped };
  },
};

async function sampleExits(argv: readonly string[], samples: number): Promise<number[]> {
  const { stdout } = await runExpecting(argv, (bytes) => bytes.length === 4 * samples);
  return Array.from(new Uint32Array(stdout.slice().buffer));
}

/** The program's path, or undefined without a compiler. */
function buildLoop(folder: string): string | undefined {
  const gcc = Bun.which('gcc');
  if (gcc === null) return undefined;
  const program = join(folder, 'exit-loop');
  const source = resolve(import.meta.dir, '../exit-loop.c');
  const { exitCode, stderr } = Bun.spawnSync([gcc, '-O2', '-Wall', '-Werror', '-o', program, source]);
  if (exitCode !== 0) throw new Error(`Cannot build exit-loop.c: ${stderr.toString().trim()}`);
  return program;
}
