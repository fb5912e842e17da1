/**
 * Debian's kernels on a PCI bus: the devices by lspci, vectors by /proc/interrupts, disks by fio, a network. The
 * guests never load virtio_mmio, as kernels of RHEL's family cannot.
 */
import { afterAll, describe, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel, type KernelFlavour } from '../../scripts/debian-kernel.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';
import { buildPciInitrd, buildPlugInitrd, buildRoundsInitrd } from './pci-guest.ts';

const cache = resolve(import.meta.dir, '../../.cache/test');
/** Bound for a hang only. */
const SECONDS = 400;
interface Guest {
  readonly kernel: DebianKernel;
  readonly initrd: string;
  /** For hotplug. */
  readonly plugInitrd: string;
}
const roundsInitrd = join(cache, 'pci-rounds-initrd');
const kernels = new Map<KernelFlavour, Guest>();

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  for (const flavour of ['amd64', 'cloud-amd64'] as const) {
    const kernel = await fetchDebianKernel(flavour);
    const initrd = join(cache, `pci-initrd-${flavour}`);
    await Bun.write(initrd, await buildPciInitrd(kernel));
    const plugInitrd = join(cache, `plug-initrd-${flavour}`);
    await Bun.write(plugInitrd, await buildPlugInitrd(kernel));
    kernels.set(flavour, { kernel, initrd, plugInitrd });
  }
  await Bun.write(roundsInitrd, await buildRoundsInitrd(kernels.get('cloud-amd64')!.kernel));
}, 600_000);

afterAll(stopLinuxHost);

/** Boots a guest with two disks and a network of two pairs of queues; `$dir` is its folder. */
async function boot(flavour: KernelFlavour, words: string, flags = ''): Promise<string> {
  const { kernel, initrd } = kernels.get(flavour)!;
  const script = `
    dir=$(mktemp -d); cd "$dir"; truncate -s 8M a b
    ip tuntap add volt-pci mode tap multi_queue; ip address add 10.77.0.1/24 dev volt-pci; ip link set volt-pci up
    "$volt" --no-reboot --cpus 2 --memory 640M --kernel "$kernel" --initrd "$initrd" --pci ${flags} \
      --disk a --disk path=b,queues=2 --net tap=volt-pci,queues=2 --rng \
      --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check ${words}" < /dev/null
    code=$?
    ip link delete volt-pci; rm -r "$dir"; exit $code`;
  const environment = [`volt=${VOLT}`, `kernel=${kernel.vmlinux}`, `initrd=${initrd}`];
  const { stdout, stderr, exitCode } = await runOnLinuxHost(
    ['env', ...environment, 'sh', '-c', script],
    SECONDS,
  );
  expect([exitCode, stderr]).toEqual([0, '']);
  return stdout.replaceAll('\r', '');
}

/** Each device's interrupts: the vector's name, and the CPU that it goes to. */
function affinities(stdout: string): Record<string, string> {
  return Object.fromEntries(
    [...stdout.matchAll(/^VOLT-GUEST affinity (virtio\S+) (\S+)$/gm)].map(([, name, cpu]) => [name!, cpu!]),
  );
}

function expectWorkingDevices(stdout: string): void {
  expect(stdout).toContain('VOLT-GUEST mmio-modules 0');
  expect(stdout).toContain('VOLT-GUEST vda serial=disk0 queues=1');
  expect(stdout).toContain('VOLT-GUEST vdb serial=disk1 queues=2');
  for (const result of ['vda verified', 'vdb verified', 'eth0 answered', 'random 64'])
    expect(stdout).toContain(`VOLT-GUEST ${result}`);
}

describe('a PCI bus under Linux', () => {
  thorough.each(['amd64', 'cloud-amd64'] as const)(
    'has a vector for each queue, each on its CPU: %s',
    async (flavour) => {
      const stdout = await boot(flavour, '');

      expectWorkingDevices(stdout);
      expect(stdout).toContain('VOLT-GUEST lspci 00:00.0 Class [0600]: Device [8086:0d57]');
      expect(stdout).toContain('VOLT-GUEST lspci 00:03.0 Class [0200]: Device [1af4:1041] (rev 01)');
      const tables = [...stdout.matchAll(/MSI-X: Enable\+ Count=(\d+) Masked-/g)].map(([, count]) => count);
      expect(tables).toEqual(['2', '3', '6', '2']);
      expect(stdout).toContain('reserved in ACPI motherboard resources');
      const cpuOf = affinities(stdout);
      expect(Object.keys(cpuOf)).toContain('virtio2-output.1');
      expect([cpuOf['virtio1-req.0'], cpuOf['virtio1-req.1']]).toEqual(['0', '1']);
    },
    LINUX_TEST,
  );

  thorough(
    'has interrupt pins for a kernel that uses no MSI-X',
    async () => {
      const stdout = await boot('amd64', 'pci=nomsi');

      expectWorkingDevices(stdout);
      expect(stdout.match(/MSI-X: Enable-/g)).toHaveLength(4);
      expect(stdout).toMatch(/irq .*IO-APIC +17-fasteoi +virtio0/);
    },
    LINUX_TEST,
  );

  thorough(
    'is found without ACPI, by mechanism #1 and the MP table',
    async () => {
      const stdout = await boot('amd64', 'pci=nomsi', '--no-acpi');

      expectWorkingDevices(stdout);
      expect(stdout).toMatch(/irq .*IO-APIC +17-fasteoi +virtio0/);
    },
    LINUX_TEST,
  );

  thorough.each(['amd64', 'cloud-amd64'] as const)(
    'takes a disk and a network while the guest runs, and gives them back: %s',
    async (flavour) => {
      const { kernel, plugInitrd } = kernels.get(flavour)!;
      const script = resolve(import.meta.dir, 'pci-plug-rounds.ts');

      const { stdout } = await runOnLinuxHost(
        [process.execPath, script, VOLT, kernel.vmlinux, plugInitrd],
        SECONDS,
      );

      expect(stdout).toContain('data is at 00:02.0');
      expect(stdout).toContain('lan is at 00:03.0');
      // Linux places them in the window above RAM.
      expect(stdout.match(/Region 0: Memory at 10000[08]000 \(64-bit/g)).toHaveLength(2);
      for (const result of ['vdb serial=data', 'vdb holds its data', 'eth0 answered', 'they are gone'])
        expect(stdout).toContain(`VOLT-GUEST ${result}`);
      for (const id of ['data', 'lan', 'disk0']) expect(stdout).toContain(`${id} is removed`);
      expect(stdout.match(/VOLT-GUEST left/g)).toHaveLength(1);
    },
    LINUX_TEST,
  );

  thorough(
    'carries 24 disks, all verified at once, and 8 networks that answer, on two buses',
    async () => {
      const { kernel, initrd } = kernels.get('cloud-amd64')!;
      const script = `
        dir=$(mktemp -d); cd "$dir"; set --
        for i in $(seq 0 23); do truncate -s 1M d$i; set -- "$@" --disk d$i; done
        for i in $(seq 0 7); do
          ip tuntap add volt-many$i mode tap; ip address add 10.77.$i.1/24 dev volt-many$i; ip link set volt-many$i up
          set -- "$@" --net tap=volt-many$i
        done
        "$volt" --no-reboot --cpus 2 --memory 1G --kernel "$kernel" --initrd "$initrd" --pci "$@" \\
          --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check" < /dev/null
        code=$?
        for i in $(seq 0 7); do ip link delete volt-many$i; done
        rm -r "$dir"; exit $code`;
      const environment = [`volt=${VOLT}`, `kernel=${kernel.vmlinux}`, `initrd=${initrd}`];

      const { stdout, exitCode } = await runOnLinuxHost(
        ['env', ...environment, 'sh', '-c', script],
        4 * SECONDS,
      );

      expect(exitCode).toBe(0);
      expect(stdout.match(/VOLT-GUEST vd. verified/g)).toHaveLength(24);
      expect(stdout.match(/VOLT-GUEST eth\d answered/g)).toHaveLength(8);
      expect(stdout).toContain('VOLT-GUEST lspci 01:00.0 Class [0200]: Device [1af4:1041] (rev 01)');
    },
    LINUX_TEST,
  );

  thorough(
    'goes on in another process, with a disk that was plugged, and loses nothing',
    async () => {
      const { kernel } = kernels.get('cloud-amd64')!;
      const script = resolve(import.meta.dir, 'pci-snapshot-rounds.ts');

      const { stdout } = await runOnLinuxHost(
        [process.execPath, script, VOLT, kernel.vmlinux, roundsInitrd],
        SECONDS,
      );

      expect(stdout).toContain('disk1 is at 00:03.0');
      expect(stdout).toMatch(/saved to saved: snapshot [0-9a-f]{32}/);
      expect(stdout).toContain('VOLT-GUEST round 6 with 2 disks');
      expect(stdout).not.toMatch(/VOLT-GUEST (\S+ differs|no answer)/);
      expect(stdout.match(/volt ended: 0/g)).toHaveLength(2);
    },
    LINUX_TEST,
  );
});
