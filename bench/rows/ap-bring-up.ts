/** How long the embedded kernel takes to start its APs. */
import { resolve } from 'node:path';
import { compareFirst, measureInTurns, type Comparison, type Measurement } from '../measurement.ts';
import { runExpecting } from '../process-run.ts';

const KERNEL = resolve(import.meta.dir, '../../kernels/smp/smp.elf');
const AIM = 1;

export const apBringUp: Measurement = {
  id: 'ap-bring-up',
  title: 'AP bring-up, per AP',
  method:
    "The embedded kernel's own clock: from having found its CPUs to the last one online, by the number of APs. The 10 ms that it waits after INIT are in it.",
  whenMissed:
    'Waking a vCPU out of its wait for SIPI is work of KVM, and most of the time is the 10 ms that the guest waits; a VMM adds a return to KVM_RUN. To be ahead by more than the noise there would have to be something to save.',
  async run({ vmms, quick, folder, log }) {
    const comparisons: Comparison[] = [];
    const skipped: string[] = [];
    const able = vmms.filter(({ id }) => ['volt', 'baseline', 'qemu'].includes(id));
    for (const cpus of quick ? [2] : [2, 8, 32, 64]) {
      log(`  ${cpus} vCPUs`);
      const guest = { kernel: KERNEL, cpus, memoryMib: 256, cmdline: 'json quick' };
      const subjects = able.map((vmm) => {
        const argv = vmm.command(guest, folder);
        return {
          name: vmm.name,
          run: async () => usPerAp((await runExpecting(argv, isReport)).stdout, cpus),
        };
      });
      const samples = await measureInTurns(subjects, quick ? 2 : 5);
      const aim = (peer: string) => (peer.startsWith('QEMU') ? AIM : undefined);
      comparisons.push(...compareFirst(samples, `${cpus} vCPUs`, 'µs', (us) => us, aim));
      skipped.push(...samples.skipped.map((line) => `${cpus} vCPUs: ${line}`));
    }
    return { comparisons, figures: [], skipped };
  },
};

interface Report {
  readonly cpus: { readonly online: number };
  readonly timeUs: { readonly found: number; readonly online: number };
}

function parse(stdout: Uint8Array): Report | undefined {
  try {
    return JSON.parse(Buffer.from(stdout).toString('latin1')) as Report;
  } catch {
    return undefined;
  }
}

function isReport(stdout: Uint8Array): boolean {
  return parse(stdout) !== undefined;
}

function usPerAp(stdout: Uint8Array, cpus: number): number {
  const { cpus: found, timeUs } = parse(stdout)!;
  if (found.online !== cpus)
    throw new Error(`Cannot compare: ${found.online} CPUs came up (expected ${cpus})`);
  return (timeUs.online - timeUs.found) / (cpus - 1);
}
