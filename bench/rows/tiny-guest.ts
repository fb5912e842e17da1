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
    "An empty Bun executable takes 4 ms of CPU time and one Worker 4 more; loading Volt's code and commander's, both run once and so interpreted, takes 8, the plan and KVM's own calls the rest (docs/performance.md has the list). Firecracker and Cloud Hypervisor are machine code that has nothing to load: reaching them needs a runtime that starts from a snapshot of its heap. Of the peak memory more than half is Bun's text, page cache that all guests of a host share (see the density row).",
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
