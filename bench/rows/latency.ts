/** How soon a vCPU obeys: kick, pause and resume. */
import { join } from 'node:path';
import { parseConfig, readConsole, VirtualMachine } from '../../src/api/index.ts';
import { pauseVcpus, resumeVcpus, sampleVcpus } from '../../src/vmm/vcpu/control.ts';
import { busyGuest, pvhElf } from '../guests.ts';
import type { Figure, Measurement } from '../measurement.ts';
import { quantile } from '../statistics.ts';

const P99_AIM_US = 200;

export const latency: Measurement = {
  id: 'latency',
  title: 'Pause, resume and kick',
  method:
    'One vCPU that runs for ever, in this process. Pause: until its worker says that it is out of KVM_RUN with its registers published; resume: until it says that it goes back; kick: until it has published where it is.',
  whenMissed:
    'The worker answers through Atomics.notify and the main thread hears it by Atomics.waitAsync, so a turn of the event loop is in each figure, and on a host with fewer free CPUs than threads a turn of the scheduler as well. The aim is for an idle machine.',
  async run({ quick, folder }) {
    const kernel = join(folder, 'busy');
    await Bun.write(kernel, pvhElf(busyGuest()));
    using vm = new VirtualMachine(
      parseConfig({
        'boot-source': { kernel_image_path: kernel },
        'machine-config': { vcpu_count: 1, mem_size_mib: 64 },
      }).config,
    );
    const printed = new Promise<void>((resolve) => readConsole(vm, () => resolve()));
    vm.start();
    await printed;
    const rounds = quick ? 200 : 5000;
    const samples: Record<string, number[]> = { kick: [], pause: [], resume: [] };
    for (let i = 0; i < rounds; i++) {
      samples['kick']!.push(await timedUs(() => sampleVcpus(vm.vcpus)));
      samples['pause']!.push(await timedUs(() => pauseVcpus(vm.vcpus)));
      samples['resume']!.push(await timedUs(() => resumeVcpus(vm.vcpus)));
    }
    await vm.stop();
    const figures: Figure[] = Object.entries(samples).flatMap(([what, us]) =>
      [50, 99, 99.9].map((percentile) => ({
        what: `${what}, p${percentile}`,
        unit: 'µs',
        value: quantile(us, percentile / 100),
        aim: percentile === 99 ? P99_AIM_US : undefined,
      })),
    );
    return { comparisons: [], figures, skipped: [] };
  },
};

async function timedUs(act: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await act();
  return (performance.now() - start) * 1000;
}
