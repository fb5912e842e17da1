/** Debian's virtio_mem: memory that grows and shrinks while the guest runs, is saved and restored. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 400;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'memory-initrd');
let kernel: DebianKernel;

/** Says how much memory there is whenever that changes by much, and fills what there is once. */
const GUEST = `
echo online_movable > /sys/devices/system/memory/auto_online_blocks
insmod /modules/virtio_mem.ko
mib() { sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo | awk '{ print int($1 / 1024) }'; }
base=$(mib)
echo "VOLT-GUEST srat $(dmesg | grep -c 'SRAT: .* hotplug')"
echo "VOLT-GUEST base"
until [ $(mib) -gt $((base + 200)) ]; do sleep 0.2; done
echo "VOLT-GUEST grew"
mount -t tmpfs -o size=300M none /mnt
dd if=/dev/zero bs=1M count=250 2>/dev/null | tr '\\0' 'v' >/mnt/data
sum=$(md5sum </mnt/data)
echo "VOLT-GUEST filled"
until [ -e /proc/self ] && [ "$(md5sum </mnt/data)" = "$sum" ] && [ $(mib) -gt $((base + 450)) ]; do sleep 0.5; done
[ "$(md5sum </mnt/data)" = "$sum" ] && echo "VOLT-GUEST same data"
rm /mnt/data
until [ $(mib) -lt $((base + 100)) ]; do sleep 0.2; done
echo "VOLT-GUEST shrank"
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  kernel = await fetchDebianKernel('amd64');
  const modules = ['virtio_pci', 'virtio_mmio', 'virtio_mem'];
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { modules, script: GUEST }));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'A guest of 256 MiB grows, keeps its data over a snapshot, grows again and shrinks, and the host gets its memory back',
  async () => {
    const script = `
      dir=$(mktemp -d); trap 'rm -r $dir' EXIT
      until_said() { for try in $(seq 1200); do grep -q "VOLT-GUEST $1" $dir/out* && return; kill -0 $volt || return; sleep 0.2; done; }
      memory() { ${VOLT} ctl $dir/sock memory "$@" --json | tr -d "\\n"; }
      resident() { awk '/VmRSS/ { print int($2 / 1024) }' /proc/$volt/status; }
      ${VOLT} --cpus 2 --memory 256M,max=1280M --kernel ${kernel.vmlinux} --initrd ${initrd} --control $dir/sock \\
        --cmdline "console=ttyS0 reboot=k panic=-1 volt.run=check" </dev/null >$dir/out & volt=$!
      until_said base
      memory 512M >/dev/null; until_said grew; until_said filled
      echo "HOST filled $(memory)"
      ${VOLT} ctl $dir/sock snapshot $dir/snap --stop --json >/dev/null
      wait $volt
      ${VOLT} restore $dir/snap --control $dir/sock </dev/null >$dir/out2 & volt=$!
      for try in $(seq 200); do [ -S $dir/sock ] && break; sleep 0.2; done; echo "HOST restored $(memory)"
      memory 768M >/dev/null; until_said "same data"; echo "HOST grown $(memory)"; echo "HOST resident $(resident)"
      memory 256M >/dev/null; until_said shrank
      echo "HOST shrunk $(memory)"; echo "HOST resident-after $(resident)"
      (sleep 120; kill $volt 2>/dev/null) & wait $volt; code=$?
      cat $dir/out $dir/out2; exit $code`;

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);

    const said = (name: string) => new RegExp(`HOST ${name} (.*)`).exec(stdout)?.[1] ?? 'null';
    const memory = (name: string) =>
      JSON.parse(said(name)) as { baseMib: number; pluggedMib: number; requestedMib: number };
    expect(
      [...stdout.matchAll(/VOLT-GUEST (base|grew|filled|same data|shrank)/g)].map(([, what]) => what),
    ).toEqual([...['base', 'grew', 'filled', 'same data', 'shrank']]);
    expect(stdout).toContain('VOLT-GUEST srat 1');
    expect(memory('filled')).toMatchObject({ baseMib: 256, pluggedMib: 256, requestedMib: 256 });
    expect(memory('restored')).toMatchObject({ pluggedMib: 256, requestedMib: 256 });
    expect(memory('grown')).toMatchObject({ pluggedMib: 512 });
    expect(memory('shrunk')).toMatchObject({ requestedMib: 0, pluggedMib: 0 });
    expect(Number(said('resident-after'))).toBeLessThan(Number(said('resident')));
    expect(stderr).toMatch(/^volt: the guest was saved to [^\n]*\n$/);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
