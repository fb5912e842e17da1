/** Linux guests that measure a device from inside, and the commands that boot them with it. */
import { join } from 'node:path';
import { fetchDebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd, type DeviceGuest } from '../../test/linux/device-initrd.ts';
import type { Guest, Vmm } from '../vmms.ts';
import type { GuestCommand } from './run-turns.ts';

/** What the guest prints last. */
export const DONE = 'BENCH-DONE';

export interface DeviceBench {
  readonly guest: Omit<DeviceGuest, 'script'>;
  /** What the guest does; lines for the bench begin with BENCH. */
  readonly script: string;
  readonly device: Pick<Guest, 'disk' | 'tap'>;
  /** Shell on the host, in a folder of its own, before the VMM. */
  readonly before: string;
  /** Needed on the host. */
  readonly packages: Parameters<typeof ensurePackages>[0];
  readonly ownNetwork?: boolean;
}

export async function deviceCommands(
  vmms: readonly Vmm[],
  bench: DeviceBench,
  folder: string,
): Promise<GuestCommand[]> {
  const { guest, script, device, before, packages, ownNetwork = false } = bench;
  await ensurePackages(packages);
  const kernel = await fetchDebianKernel('amd64');
  const initrd = join(folder, 'device-initrd');
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { ...guest, script: `${script}\necho ${DONE}` }));
  const cmdline = 'console=ttyS0 reboot=k panic=-1 quiet volt.run=check';
  return vmms
    .filter(({ id }) => ['volt', 'baseline', 'qemu'].includes(id))
    .map((vmm) => {
      const argv = vmm.command(
        { kernel: kernel.vmlinux, initrd, cpus: 1, memoryMib: 512, cmdline, cpuModel: 'host', ...device },
        folder,
      );
      const shell = ['sh', '-e', '-c', `${before}\nexec "$@"`, 'sh', ...argv];
      return { name: vmm.name, argv: ownNetwork ? ['unshare', '--net', ...shell] : shell };
    });
}

/** The number behind `BENCH <name>=`. */
export function resultOf(console: string, name: string): number {
  const value = Number(new RegExp(`BENCH ${name}=([\\d.]+)`).exec(console)?.[1]);
  if (value > 0) return value;
  throw new Error(`Cannot read ${name}: "${console.trim().slice(-300)}" (expected it from the guest)`);
}
