/** The Linux guest of the boot measurements: Debian's kernel, and an init that says that it is there. */
import { join } from 'node:path';
import { fetchDebianKernel } from '../../scripts/debian-kernel.ts';
import { buildInitrd, busyboxEntries } from '../../scripts/initrd.ts';
import type { Guest, Vmm } from '../vmms.ts';
import type { GuestCommand } from './run-turns.ts';

/** What init prints first, and what it prints when it has told the kernel's own times of its CPUs. */
export const MARKER = { userSpace: 'BENCH-USER-SPACE', told: 'BENCH-TOLD' } as const;

const INIT = `#!/bin/sh
/bin/busybox echo ${MARKER.userSpace}
/bin/busybox mount -t proc proc /proc
/bin/busybox dmesg | /bin/busybox grep -E 'smp: Br|smpboot: Total'
/bin/busybox echo ${MARKER.told}
/bin/busybox reboot -f
`;

export interface BootGuest {
  readonly vmlinux: string;
  readonly vmlinuz: string;
  readonly initrd: string;
}

export async function makeBootGuest(folder: string): Promise<BootGuest> {
  const { vmlinux, vmlinuz } = await fetchDebianKernel('amd64');
  const initrd = join(folder, 'boot-initrd');
  await Bun.write(initrd, buildInitrd(await busyboxEntries(INIT)));
  return { vmlinux, vmlinuz, initrd };
}

/** The command of each VMM that boots this guest. */
export function bootCommands(
  vmms: readonly Vmm[],
  { vmlinux, vmlinuz, initrd }: BootGuest,
  rest: Pick<Guest, 'cpus' | 'cmdline'>,
  folder: string,
): GuestCommand[] {
  return vmms.map((vmm) => {
    // kvmtool takes no ELF kernel, so its guest has to unpack itself first.
    const kernel = vmm.id === 'kvmtool' ? vmlinuz : vmlinux;
    const guest = { kernel, initrd, memoryMib: 512, cpuModel: 'host', ...rest };
    return { name: vmm.name, argv: vmm.command(guest, folder) };
  });
}
