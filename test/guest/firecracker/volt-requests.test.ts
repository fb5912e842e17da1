/** Requests beside those of Firecracker. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { readFileSync } from 'node:fs';
import { testNeeding } from '../../support/needs.ts';
import { FirecrackerChild, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const KERNEL = readFileSync(new URL('../../../kernels/smp/smp.elf', import.meta.url));

describe('requests below /volt', () => {
  needsKvm('give a microVM more vCPUs than Firecracker has, and NUMA nodes', async () => {
    await using volt = await FirecrackerChild.start([], { kernel: KERNEL });
    await volt.done('PUT', '/boot-source', { kernel_image_path: volt.kernel, boot_args: 'loop' });
    const early = await volt.request('GET', '/volt/vcpus');

    const numa = [{ cpus: '0-19' }, { cpus: '20-39' }];
    await volt.done('PUT', '/volt/config', { vcpu_count: 40, numa });
    await volt.done('PUT', '/actions', { action_type: 'InstanceStart' });
    const vcpus = JSON.parse((await volt.request('GET', '/volt/vcpus')).body) as unknown[];
    const late = await volt.request('PUT', '/volt/config', { vcpu_count: 2 });

    expect(vcpus).toHaveLength(40);
    expect([early.status, late.status]).toEqual([400, 400]);
    expect(early.body).toContain('not supported before starting');
  });

  needsKvm('interrupt vCPUs and refuse what makes no sense', async () => {
    await using volt = await FirecrackerChild.start([], { kernel: KERNEL });
    await volt.done('PUT', '/boot-source', { kernel_image_path: volt.kernel, boot_args: 'loop' });
    await volt.done('PUT', '/actions', { action_type: 'InstanceStart' });

    const answers = await Promise.all([
      volt.request('PUT', '/volt/nmi', { vcpu: 0 }),
      volt.request('PUT', '/volt/regs', { vcpu: 99 }),
      volt.request('PUT', '/volt/regs', { x: 1 }),
      volt.request('GET', '/volt/nothing'),
    ]);

    expect(answers.map(({ status }) => status)).toEqual([200, 400, 400, 400]);
    expect(answers[1]!.body).toContain('Cannot find vCPU 99');
  });
});
