/** Debian's vmgenid driver: it finds the VM generation counter, and reseeds when the ID changes and only then. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, test } from './linux-host.ts';

const SECONDS = 150;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'vm-generation-initrd');
let kernel: DebianKernel;

/** The number of reseedings, each time there is an interrupt of the event device, or the driver was just loaded. */
const GUEST = `
forks() { dmesg | grep -c 'random: crng reseeded due to virtual machine fork'; }
events() { awk '/ACPI:Ged|ACPI0013|:Ged/ { n += $2 } END { print n + 0 }' /proc/interrupts; }
echo "VOLT-GUEST driver=$(ls /sys/bus/acpi/drivers/vmgenid | grep VOLT0001)"
seen=-1
until [ "$seen" -ge 3 ]; do
  now=$(events)
  [ "$now" = "$seen" ] || { sleep 1; seen=$now; echo "VOLT-GUEST events=$seen forks=$(forks)"; }
  sleep 0.1
done
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  kernel = await fetchDebianKernel('amd64');
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { modules: ['vmgenid'], script: GUEST }));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

test(
  'Linux reseeds its random numbers when the VM generation ID changes, and not when the same ID is announced',
  async () => {
    const rounds = join(import.meta.dir, 'vm-generation-rounds.ts');
    const argv = [process.execPath, rounds, kernel.vmlinux, initrd];

    const { stdout, stderr, exitCode } = await runOnLinuxHost(argv, SECONDS);

    expect(stdout).toContain('VOLT-GUEST driver=VOLT0001:00');
    expect(stdout.match(/VOLT-GUEST events=.*(?=\r)/g)).toEqual([
      'VOLT-GUEST events=0 forks=0',
      'VOLT-GUEST events=1 forks=1',
      'VOLT-GUEST events=2 forks=1',
      'VOLT-GUEST events=3 forks=2',
    ]);
    expect(stdout).not.toMatch(/(ACPI|vmgenid).*(error|exception|warning|BIOS bug)/i);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
