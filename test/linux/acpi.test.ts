/** Debian's kernels by ACPI: topology, NUMA, CPU hotplug, the power button, S5 and reboot, seen from inside. */
import { afterAll, describe, expect } from 'bun:test';
import { mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
import { collectModules } from '../../scripts/kernel-modules.ts';
import {
  beforeAll,
  EVERY_BOOT,
  LINUX_TEST,
  runOnLinuxHost,
  stopLinuxHost,
  test,
  thorough,
  type CommandResult,
  VOLT,
} from './linux-host.ts';

/** Bounds for a hang only. */
const BOOT_SECONDS = 90;
const ROUNDS_SECONDS = 150;
const TEST_MS = 400_000;
/** Of plugging a CPU and taking it out again; a thousand by hand. */
const ROUNDS = Number(process.env['VOLT_PLUG_ROUNDS'] ?? 3);

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'acpi-initrd');
let cloud: DebianKernel;
let full: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  cloud = await fetchDebianKernel('cloud-amd64');
  full = await fetchDebianKernel('amd64');
  const check = (name: string) => ({
    path: `checks/${name}`,
    mode: 0o755,
    data: readFileSync(resolve(import.meta.dir, `checks/${name}.sh`)),
  });
  const modules = collectModules(full.modulesDir, ['button', 'evdev']).map(({ name, data }, i) => ({
    path: `modules/${i}-${name}.ko`,
    mode: 0o644,
    data,
  }));
  await Bun.write(initrd, await buildGuestInitrd([check('plug'), check('numa'), ...modules]));
}, TEST_MS);

afterAll(stopLinuxHost);

function boot(kernel: DebianKernel, flags: readonly string[], words = ''): Promise<CommandResult> {
  const cmdline = `console=ttyS0 reboot=k panic=-1 ${words}`.trim();
  const files = ['--kernel', kernel.vmlinux, '--initrd', initrd, '--cmdline', cmdline];
  return runOnLinuxHost([VOLT, ...files, '--no-reboot', ...flags], BOOT_SECONDS);
}

const TOPOLOGIES = [
  ['8,sockets=2,dies=1,cores=2,threads=2,max=16', 'cpus=8 sockets=2 cores=4 threads=2'],
  ['1', 'cpus=1 sockets=1 cores=1 threads=1'],
  ['2', 'cpus=2 sockets=1 cores=2 threads=1'],
  ['3,sockets=3', 'cpus=3 sockets=3 cores=3 threads=1'],
  ['6,sockets=1,dies=2,cores=3', 'cpus=6 sockets=1 cores=6 threads=1'],
  ['6,cores=3,threads=2', 'cpus=6 sockets=1 cores=3 threads=2'],
] as const;

describe("Debian's cloud kernel, which knows no MP tables", () => {
  test.each(EVERY_BOOT ? TOPOLOGIES : TOPOLOGIES.slice(0, 1))(
    '--cpus %s reports %s',
    async (cpus, report) => {
      const { stdout, stderr, exitCode } = await boot(cloud, ['--cpus', cpus, '--no-mptable']);

      expect(stdout).toContain('ACPI: Using ACPI (MADT) for SMP configuration information');
      expect(stdout).toContain(`VOLT-GUEST ${report}\r\n`);
      expect(stdout).not.toMatch(/ACPI.*(error|exception|warning|BIOS bug)/i);
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  test(
    'two NUMA nodes show their CPUs, their memory and their distances',
    async () => {
      const nodes = ['--numa', 'cpus=0+2,memory=300M,distance=10:25', '--numa', 'cpus=1+3,memory=212M'];
      const { stdout, stderr, exitCode } = await boot(cloud, ['--cpus', '4', ...nodes], 'volt.run=numa');

      expect(stdout).toContain('VOLT-GUEST node 0: cpus=0,2 distance=10 25');
      expect(stdout).toContain('VOLT-GUEST node 1: cpus=1,3 distance=25 10');
      const kib = [...stdout.matchAll(/VOLT-GUEST node \d memory=(\d+)/g)].map((match) => Number(match[1]));
      // Each lacks what the kernel keeps for itself.
      expect(kib.map((size) => Math.round(size / 1024 / 100))).toEqual([3, 2]);
      expect(stderr).toMatch(/^(volt: the host has one NUMA node.*\n)?$/);
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );
});

thorough(
  'the cloud kernel counts all of 300 CPUs that there may be, with ids that only x2APIC has',
  async () => {
    const { stdout, exitCode } = await boot(cloud, ['--cpus', '2,max=300', '--memory', '1G']);

    expect(stdout).toContain('smpboot: Allowing 300 CPUs, 298 hotplug CPUs');
    expect(stdout).toContain('VOLT-GUEST cpus=2 ');
    expect(stdout).not.toMatch(/ACPI.*(error|exception|warning|BIOS bug)/i);
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);

thorough(
  'with ACPI and MP tables the full kernel takes ACPI; `acpi=off` makes it take the MP tables',
  async () => {
    const both = await boot(full, ['--cpus', '2']);
    const mp = await boot(full, ['--cpus', '2'], 'acpi=off');

    expect(both.stdout).toContain('ACPI: Using ACPI (MADT) for SMP configuration information');
    expect(both.stdout).toContain('VOLT-GUEST cpus=2 sockets=1 cores=2 threads=1');
    expect(mp.stdout).toContain('found SMP MP-table at [mem 0x0009fc00-0x0009fc0f]');
    expect(mp.stdout).toContain('VOLT-GUEST cpus=2 sockets=1 cores=2 threads=1');
  },
  LINUX_TEST,
);

describe('power', () => {
  thorough(
    'poweroff is S5 and ends Volt with 0',
    async () => {
      const { stdout, exitCode } = await boot(cloud, [], 'volt.end=poweroff');

      expect(stdout).toContain('ACPI: PM: Preparing to enter system sleep state S5');
      expect(stdout).toContain('reboot: Power down');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'reboot ends Volt with --no-reboot, by the ACPI register and without a word about how',
    async () => {
      const files = ['--kernel', cloud.vmlinux, '--initrd', initrd, '--no-reboot'];
      // Left alone it tries EFI first on a hardware-reduced machine, and then jumps to the BIOS.
      for (const word of ['', 'reboot=a']) {
        const argv = [VOLT, ...files, '--cmdline', `console=ttyS0 panic=-1 ${word}`.trim()];
        const { stdout, stderr, exitCode } = await runOnLinuxHost(argv, BOOT_SECONDS);

        expect(stdout).toContain('reboot: machine restart');
        expect({ word, stderr, exitCode }).toEqual({ word, stderr: '', exitCode: 0 });
      }
    },
    LINUX_TEST,
  );

  test(
    'reboot starts the guest in place, on the same console and with the same control socket',
    async () => {
      const script = `
        dir=$(mktemp -d); out=$dir/out; sock=$dir/sock
        "$1" --kernel "$2" --initrd "$3" --cmdline 'console=ttyS0 reboot=k panic=-1 quiet' --control "$sock" < /dev/null > "$out" &
        until [ "$(grep -c 'VOLT-GUEST done' "$out")" -ge 2 ]; do sleep 0.1; done
        "$1" ctl "$sock" stop
        wait; echo "exit code $?"; cat "$out"; rm -r "$dir"`;
      const argv = ['sh', '-c', script, 'sh', VOLT, cloud.vmlinux, initrd];

      const { stdout } = await runOnLinuxHost(argv, ROUNDS_SECONDS);

      expect(stdout.match(/VOLT-GUEST cpus=2/g)!.length).toBeGreaterThanOrEqual(2);
      expect(stdout).toContain('reboot: Restarting system');
    },
    LINUX_TEST,
  );
});

test(
  'CPUs come and go while Linux runs, it runs on them, and the power button ends it',
  async () => {
    const script = `
      dir=$(mktemp -d); out=$dir/out; sock=$dir/sock
      "$1" --cpus 2,max=4 --kernel "$2" --initrd "$3" --control "$sock" \
        --cmdline 'console=ttyS0 reboot=k panic=-1 quiet volt.run=plug' < /dev/null > "$out" &
      until grep -q 'VOLT-GUEST cpu 1 is here' "$out"; do sleep 0.1; done
      "$4" "$5" "$sock" "$out" "$6" || exit 1
      "$1" ctl "$sock" cpus 4
      until grep -q 'VOLT-GUEST cpu 3 is here, ran on 3' "$out"; do sleep 0.1; done
      "$1" ctl --json "$sock" status
      "$1" ctl "$sock" cpus 1 && echo 'one is left'
      "$1" ctl "$sock" cpus 5
      "$1" ctl "$sock" powerdown
      wait; echo "exit code $?"; cat "$out"; rm -r "$dir"`;
    const rounds = resolve(import.meta.dir, 'plug-rounds.ts');
    const argv = [
      'sh',
      '-c',
      script,
      'sh',
      VOLT,
      full.vmlinux,
      initrd,
      process.execPath,
      rounds,
      `${ROUNDS}`,
    ];

    const { stdout, stderr } = await runOnLinuxHost(argv, ROUNDS_SECONDS + ROUNDS * 10);

    expect(stdout).toContain(`${ROUNDS} rounds\n`);
    expect(stdout.match(/VOLT-GUEST cpu 2 is here, ran on 2/g)).toHaveLength(ROUNDS + 1);
    expect(stdout).toContain('VOLT-GUEST cpu 2 is gone');
    expect(stdout).toContain('"vcpus": 4,\n  "maxVcpus": 4,');
    expect(stdout).toContain('1 vCPUs: removed 1, 2, 3\none is left');
    expect(stderr).toContain('Cannot change the number of vCPUs to 5 (expected 1 to 4)');
    expect(stdout).toContain('VOLT-GUEST power button');
    expect(stdout).toContain('reboot: Power down');
    expect(stdout).toContain('exit code 0');
  },
  { ...LINUX_TEST, timeout: LINUX_TEST.timeout + ROUNDS * 20_000 },
);
