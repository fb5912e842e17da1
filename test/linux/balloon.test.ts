/** Debian's virtio_balloon: inflate, deflate, statistics, and free pages that go back to the host. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 200;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'balloon-initrd');
const poorInitrd = join(cache, 'poor-balloon-initrd');
let kernel: DebianKernel;

const GUEST = `
total() { awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo; }
mkdir -p /fill && mount -t tmpfs -o size=400M tmpfs /fill
before=$(total)
dd if=/dev/zero of=/fill/file bs=1M count=200 2>/dev/null
echo "VOLT-GUEST filled"
sleep 2
rm /fill/file
echo "VOLT-GUEST emptied"
while [ $(total) -gt $((before - 128)) ]; do sleep 0.2; done
echo "VOLT-GUEST inflated"
while [ $(total) -lt $before ]; do sleep 0.2; done
echo "VOLT-GUEST deflated"
sleep 2
`;

/** Wants more than the balloon leaves it. */
const POOR_GUEST = `
mkdir -p /fill && mount -t tmpfs -o size=450M tmpfs /fill
until [ "$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)" -lt 200 ]; do sleep 0.2; done
echo "VOLT-GUEST inflated"
dd if=/dev/zero of=/fill/file bs=1M count=250 2>/dev/null && echo "VOLT-GUEST filled"
dmesg | grep -c 'Killed process' | sed 's/^/VOLT-GUEST killed=/'
sleep 2
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  kernel = await fetchDebianKernel('amd64');
  const modules = ['virtio_mmio', 'virtio_balloon'];
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { modules, script: GUEST }));
  await Bun.write(poorInitrd, await buildDeviceInitrd(kernel, { modules, script: POOR_GUEST }));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a Debian guest gives memory back, by free pages and by the balloon, and gets it again',
  async () => {
    const rounds = join(import.meta.dir, 'balloon-rounds.ts');
    const script = `
      folder=$(mktemp -d)
      trap 'rm -r $folder' EXIT
      ${process.execPath} ${rounds} $folder/c.sock ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${initrd} \\
        --no-reboot --balloon stats=1 --control $folder/c.sock --cmdline "console=ttyS0 reboot=k panic=-1 volt.run=check"`;

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);
    const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, number>;

    expect(stderr).toBe('');
    expect(result).toMatchObject({
      inflatedMib: 128,
      wantedMib: 0,
      refused: 'Cannot inflate the balloon to 10000 MiB (expected at most 512)',
      exitCode: 0,
    });
    expect(result['releasedMib']).toBeGreaterThan(100);
    expect(result['reportedMib']).toBeGreaterThan(100);
    expect(result['totalMib']).toBeWithin(250, 512);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);

thorough(
  'a Debian guest takes memory back from its balloon before it runs out of it, with deflate-on-oom',
  async () => {
    const script = `
      out=$(mktemp); sock=$(mktemp -u); trap 'rm $out' EXIT
      ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${poorInitrd} --no-reboot --balloon size=300M,deflate-on-oom \\
        --control $sock --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check" < /dev/null > $out & volt=$!
      until grep -q 'VOLT-GUEST killed' $out; do sleep 0.1; kill -0 $volt || break; done
      ${VOLT} ctl $sock balloon --json; wait $volt; code=$?; cat $out; exit $code`;

    const { stdout, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);

    expect(stdout).toContain('VOLT-GUEST inflated');
    expect(stdout).toContain('VOLT-GUEST filled');
    expect(stdout).toContain('VOLT-GUEST killed=0');
    const { wantedMib, actualMib } = JSON.parse(stdout.slice(0, stdout.indexOf('}\n}') + 3));
    expect(wantedMib).toBe(300);
    expect(actualMib).toBeLessThan(260);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
