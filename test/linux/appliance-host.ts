/**
 * A whole machine for tests of the package: Debian with systemd as process 1 on an emulated AMD machine, with cgroups v2
 * and a /dev/kvm that runs Linux. Volt's package, a newer one, and a guest for them wait in /run/nested/exchange.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { DEFAULT_IMAGE_OPTIONS, makeDebianImage } from '../../scripts/debian-image.ts';
import { fetchDebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
import { collectModules } from '../../scripts/kernel-modules.ts';
import { startNestedHost, type NestedHost } from '../../scripts/nested-host.ts';
import { releaseContext, runText } from '../../scripts/package/context.ts';
import { buildDeb } from '../../scripts/package/deb.ts';
import { hangSeconds, VOLT, type CommandResult } from './linux-host.ts';

const cache = resolve(import.meta.dir, '../../.cache/test/appliance');
const MEMORY_MIB = 3072;

/** Begins every script: the package is there, and so is a guest that serves until its power button is pressed. */
const PRELUDE = `
export DEBIAN_FRONTEND=noninteractive
files=/run/nested/exchange
dpkg -s volt >/dev/null 2>&1 || apt-get install -y -q $files/volt.deb >/tmp/install 2>&1 || cat /tmp/install
mkdir -p /srv/guest
[ -e /srv/guest/initrd ] || cp $files/vmlinux $files/initrd /srv/guest/
linux='"boot-source": { "kernel_image_path": "/srv/guest/vmlinux", "initrd_path": "/srv/guest/initrd",
  "boot_args": "console=ttyS0 reboot=k panic=-1 quiet volt.run=button" }, "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 }'
beats='"boot-source": { "kernel_image_path": "/usr/lib/volt/smp-kernel", "boot_args": "loop" },
  "machine-config": { "vcpu_count": 1, "mem_size_mib": 64 }'
# What a try before left is over, and not in the journal that is looked at.
systemctl stop 'volt@*'
start=$(date +%s)
journal() { journalctl --since "@$start" -u "volt@$1" -o cat --no-pager; }
# Until the journal of a guest has a line as often as said.
await() { until [ "$(journal "$1" | grep -c "$2")" -ge "$3" ]; do sleep 0.2; done; }
show() { systemctl show "volt@$1" -p "$2" --value; }
`;

let files: string | undefined;
let machine: Promise<NestedHost> | undefined;

/** Makes the image, the packages and the guest's files. Needs root. */
export async function prepareAppliance(): Promise<void> {
  mkdirSync(cache, { recursive: true });
  const path = join(cache, 'debian.img');
  await makeDebianImage({ ...DEFAULT_IMAGE_OPTIONS, path });
  files = mkdtempSync(join(tmpdir(), 'volt-appliance-'));
  const kernel = await fetchDebianKernel('cloud-amd64');
  copyFileSync(kernel.vmlinux, join(files, 'vmlinux'));
  const modules = collectModules(kernel.modulesDir, [
    'button',
    'evdev',
    'virtio_mmio',
    'virtio_blk',
    'virtio_net',
  ]);
  const initrd = await buildGuestInitrd([
    { path: 'checks/button', mode: 0o755, data: readFileSync(resolve(import.meta.dir, 'checks/button.sh')) },
    ...modules.map(({ name, data }, i) => ({
      path: `modules/${String(i).padStart(2, '0')}-${name}.ko`,
      mode: 0o644,
      data,
    })),
  ]);
  await Bun.write(join(files, 'initrd'), initrd);
  const stage = join(files, 'stage');
  mkdirSync(stage);
  const deb = buildDeb(stage, files, releaseContext(VOLT));
  rmSync(stage, { recursive: true });
  runText(['mv', deb, join(files, 'volt.deb')]);
  makeNewer(join(files, 'volt.deb'), stage, join(files, 'newer.deb'));
}

/** The same package with a higher version and a unit that is not the same. */
function makeNewer(deb: string, stage: string, newer: string): void {
  runText(['dpkg-deb', '-R', deb, stage]);
  runText(['sed', '-i', 's/^Version: .*/Version: 99.0-1/', join(stage, 'DEBIAN/control')]);
  runText(['sed', '-i', '$a # Of version 99.', join(stage, 'lib/systemd/system/volt@.service')]);
  runText(['dpkg-deb', '-Znone', '-b', stage, newer]);
  rmSync(stage, { recursive: true });
}

/** Runs a shell script as root on the machine, which is started if need be. `timeoutSeconds` only bounds a hang. */
export async function runOnAppliance(script: string, timeoutSeconds: number): Promise<CommandResult> {
  machine ??= start();
  try {
    const host = await machine;
    return await host.run(PRELUDE + script, { timeoutSeconds: hangSeconds(timeoutSeconds) });
  } catch (error) {
    // It died or hangs: whoever comes next gets a fresh one.
    await stopAppliance().catch(() => {});
    throw error;
  }
}

async function stopAppliance(): Promise<void> {
  const host = machine;
  machine = undefined;
  await host?.then((each) => each.stop());
}

export async function disposeAppliance(): Promise<void> {
  await stopAppliance();
  if (files !== undefined) rmSync(files, { recursive: true, force: true });
}

async function start(): Promise<NestedHost> {
  const image = join(cache, 'debian.img');
  // One CPU, as in linux-host.ts.
  const host = await startNestedHost({ cpus: 1, memoryMiB: MEMORY_MIB, image, modules: ['tun'] });
  for (const name of ['volt.deb', 'newer.deb', 'vmlinux', 'initrd']) {
    copyFileSync(join(files!, name), join(host.exchangeDir, name));
  }
  return host;
}
