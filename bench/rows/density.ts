/** What an idle guest takes of the host's memory when there are several. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { idleGuest, pvhElf } from '../guests.ts';
import { compareFirst, measureInTurns, type Measurement } from '../measurement.ts';

const HANG_MS = 60_000;

export const density: Measurement = {
  id: 'density',
  title: 'Idle guests side by side (1 vCPU, 256 MiB each)',
  method:
    'Several guests that have printed a byte and halted; the sum of the proportional set sizes (PSS) of their processes, by the number of guests. Pages that guests share, such as the executable, count once.',
  whenMissed:
    "Bun's heaps and what its runtime touches at the start, 11 MiB, are private to each process; Firecracker and Cloud Hypervisor have no such thing. Less per guest would need fewer processes: several machines in one, which the library can do, share that.",
  async run({ vmms, quick, folder, log }) {
    const guests = quick ? 2 : 16;
    log(`  ${guests} guests of each`);
    const kernel = join(folder, 'idle');
    await Bun.write(kernel, pvhElf(idleGuest()));
    const subjects = vmms
      .filter(({ id }) => id !== 'kvmtool')
      .map((vmm) => {
        const argv = vmm.command({ kernel, cpus: 1, memoryMib: 256 }, folder);
        return { name: vmm.name, run: () => pssPerGuest(argv, guests) };
      });
    const samples = await measureInTurns(subjects, quick ? 1 : 3);
    return {
      comparisons: compareFirst(
        samples,
        `PSS per guest, ${guests} guests`,
        'MiB',
        (mib) => mib,
        () => 1,
      ),
      figures: [],
      skipped: samples.skipped,
    };
  },
};

async function pssPerGuest(argv: readonly string[], guests: number): Promise<number> {
  const children = Array.from({ length: guests }, () =>
    Bun.spawn([...argv], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'ignore',
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    }),
  );
  try {
    await Promise.all(children.map(({ stdout }) => firstByte(stdout, argv[0]!)));
    return children.reduce((sum, { pid }) => sum + pssMib(pid), 0) / guests;
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(children.map(({ exited }) => exited));
  }
}

async function firstByte(stdout: ReadableStream<Uint8Array>, program: string): Promise<void> {
  const { value } = await stdout.getReader().read();
  if (value === undefined)
    throw new Error(`Cannot measure ${program}: it ended at once (expected an idle guest)`);
}

function pssMib(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}
