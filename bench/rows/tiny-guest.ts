/** Exec to exit of a guest that prints one byte: what starting and ending a VMM costs. */
import { join } from 'node:path';
import { pvhElf, tinyGuest } from '../guests.ts';
import { compareFirst, measureInTurns, type Comparison, type Measurement } from '../measurement.ts';
import { hasGnuTime, peakMemoryMib, runExpecting } from '../process-run.ts';

const AIM = { wall: 0.35, cpu: 0.35, memory: 0.9, firecrackerWall: 1 } as const;

export const tiny: Measurement = {
  id: 'tiny-guest',
  title: 'A tiny guest, exec to exit (2 vCPUs, 256 MiB)',
  method:
    'The guest prints one byte and resets. Wall time from spawn to exit, CPU time of the whole process by wait4(2), peak resident memory by GNU time in runs of its own.',
  whenMissed:
    "Of the CPU time an empty Bun executable takes 4 ms and a Worker 5; loading the code of Volt and of commander, which run once and so are interpreted, takes 8; the plan, the sandbox and KVM's own calls, among them 2 ms for the memory slot, take the rest (docs/performance.md has the list). Half of Firecracker's wall time is KVM unmaking its PIT, which a Volt guest that does not touch the PIT has not. Getting below Firecracker needs a runtime that starts from a snapshot of its heap, or machine code. Of the peak memory more than half is Bun's text, page cache that all guests of a host share (see the density row).",
  async run({ vmms, quick, folder }) {
    const kernel = join(folder, 'tiny');
    await Bun.write(kernel, pvhElf(tinyGuest()));
    const guest = { kernel, cpus: 2, memoryMib: 256 };
    const subjects = vmms
      .filter(({ id }) => id !== 'kvmtool')
      .map((vmm) => ({ name: vmm.name, argv: vmm.command(guest, folder) }));
    const times = await measureInTurns(
      subjects.map(({ name, argv }) => ({ name, run: () => runExpecting(argv, 'x') })),
      quick ? 5 : 40,
    );
    const wallAim = (peer: string) =>
      peer.startsWith('QEMU') ? AIM.wall : peer === 'Firecracker' ? AIM.firecrackerWall : undefined;
    const comparisons: Comparison[] = [
      ...compareFirst(times, 'wall time', 'ms', (run) => run.wallMs, wallAim),
      ...compareFirst(times, 'CPU time', 'ms', (run) => run.cpuMs, ofQemu(AIM.cpu)),
    ];
    const skipped = [...times.skipped];
    if (vmms.some(({ id }) => id === 'kvmtool')) skipped.push('kvmtool: takes no PVH kernel');
    if (hasGnuTime) {
      const able = subjects.filter(({ name }) => times.bySubject.has(name));
      const peaks = await measureInTurns(
        able.map(({ name, argv }) => ({ name, run: () => peakMemoryMib(argv, folder) })),
        quick ? 2 : 7,
      );
      comparisons.push(...compareFirst(peaks, 'peak memory', 'MiB', (mib) => mib, ofQemu(AIM.memory)));
    } else skipped.push('peak memory: no GNU time on the PATH (Debian package time)');
    return { comparisons, figures: [], skipped };
  },
};

function ofQemu(aim: number): (peer: string) => number | undefined {
  return (peer) => (peer.startsWith('QEMU') ? aim : undefined);
}
