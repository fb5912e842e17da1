/** How long a large kernel takes to get into guest memory. */
import { readFileSync, statSync } from 'node:fs';
import { parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { openKernel } from '../../src/vmm/image-file.ts';
import { planImage } from '../../src/plan/plan.ts';
import { defaultKernelCacheDir, fetchDebianKernel } from '../../scripts/debian-kernel.ts';
import { compareFirst, measureInTurns, type Findings, type Measurement } from '../measurement.ts';
import { spreadOf } from '../statistics.ts';

const AIM_MS = 5;

export const kernelLoad: Measurement = {
  id: 'kernel-load',
  title: "Kernel load: Debian's vmlinux, warm cache",
  method:
    'In this process: recognise and plan the kernel, then from the made VM to all of it in guest memory, against reading the file once into fresh memory.',
  whenMissed:
    'What the sections of the kernel hold is read into huge pages, a copy at the speed of memory. Mapping the pages of its file met the aim, and let guests of one kernel share them; but a guest then took a fault for each 4 KiB, wrote to most of them anyway, and Linux came up later by half (docs/performance.md, Linux guests).',
  async run({ quick }) {
    const cached = `${defaultKernelCacheDir}/amd64/vmlinux`;
    const kernel = quick
      ? (await Bun.file(cached).exists())
        ? cached
        : undefined
      : (await fetchDebianKernel('amd64')).vmlinux;
    if (kernel === undefined)
      return {
        comparisons: [],
        figures: [],
        skipped: ['no Debian kernel in the cache; the full form fetches it'],
      };
    return measureLoad(kernel, quick ? 3 : 15);
  },
};

async function measureLoad(kernel: string, rounds: number): Promise<Findings> {
  const samples = await measureInTurns(
    [
      { name: 'Volt', run: () => Promise.resolve(loadMs(kernel)) },
      { name: 'read(2)', run: () => Promise.resolve(timed(() => readFileSync(kernel))) },
    ],
    rounds,
  );
  const mib = (statSync(kernel).size / 2 ** 20).toFixed(0);
  return {
    comparisons: compareFirst(samples, `load of ${mib} MiB`, 'ms', (ms) => ms),
    figures: [
      {
        what: `load of ${mib} MiB, median`,
        unit: 'ms',
        value: spreadOf(samples.bySubject.get('Volt')!).median,
        aim: AIM_MS,
      },
    ],
    skipped: samples.skipped,
  };
}

function loadMs(kernel: string): number {
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: kernel },
    'machine-config': { vcpu_count: 1, mem_size_mib: 512 },
  });
  const planning = timed(() => {
    using image = openKernel(kernel, 'the kernel');
    planImage(config, image, undefined);
  });
  using vm = new VirtualMachine(config);
  const at = new Map(vm.timeline.rows(vm.shared, vm.config.bootCpu).map(({ phase, atMs }) => [phase, atMs]));
  return planning + at.get('kernel loaded')! - at.get('VM made')!;
}

function timed(act: () => unknown): number {
  const start = performance.now();
  act();
  return performance.now() - start;
}
