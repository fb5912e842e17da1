/** Unmodified Debian Linux boots through the compiled binary and finds its processors through Volt's MP tables. */
import { afterAll, describe, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
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
const TEST_MS = 400_000;

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'guest-initrd');
let kernel: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await Bun.write(initrd, await buildGuestInitrd());
  kernel = await fetchDebianKernel('amd64');
}, TEST_MS);

afterAll(stopLinuxHost);

interface Boot {
  readonly kernel?: string;
  readonly cpus: number;
  readonly words?: string;
  readonly flags?: readonly string[];
}

function boot({ kernel: path = kernel.vmlinux, cpus, words = '', flags = [] }: Boot): Promise<CommandResult> {
  const cmdline = `console=ttyS0 reboot=k panic=-1 ${words}`.trim();
  const argv = [
    VOLT,
    '--no-acpi',
    '--no-reboot',
    '--cpus',
    String(cpus),
    '--kernel',
    path,
    '--initrd',
    initrd,
    '--cmdline',
    cmdline,
    ...flags,
  ];
  return runOnLinuxHost(argv, BOOT_SECONDS);
}

describe('Debian 6.1 by MP tables', () => {
  test.each(EVERY_BOOT ? [1, 2, 4] : [2])(
    'vmlinux with %d CPUs: the kernel finds the tables and starts every CPU',
    async (cpus) => {
      const { stdout, stderr, exitCode } = await boot({ cpus });

      expect(stdout).toContain('found SMP MP-table at [mem 0x0009fc00-0x0009fc0f]');
      expect(stdout).toContain('MPTABLE: OEM ID: NOVAFLAR');
      expect(stdout).toContain('MPTABLE: Product ID: VOLT VM');
      expect(stdout).toContain(`Processors: ${cpus}\r\n`);
      expect(stdout).toContain(`IOAPIC[0]: apic_id ${cpus}, version 17, address 0xfec00000, GSI 0-23`);
      expect(stdout).toContain(`Brought up 1 node, ${cpus} CPU${cpus === 1 ? '' : 's'}`);
      expect(stdout).toMatch(new RegExp(`Total of ${cpus} processors activated`));
      expect(stdout).toContain(`VOLT-GUEST cpus=${cpus} sockets=1 cores=${cpus} threads=1`);
      expect(stdout).toContain('VOLT-GUEST done');
      expect(stderr).toBe('');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'bzImage with 2 CPUs: the same by the 64-bit entry',
    async () => {
      const { stdout, exitCode } = await boot({ kernel: kernel.vmlinuz, cpus: 2 });

      expect(stdout).toContain('found SMP MP-table at [mem 0x0009fc00-0x0009fc0f]');
      expect(stdout).toContain('Total of 2 processors activated');
      expect(stdout).toContain('VOLT-GUEST cpus=2 sockets=1 cores=2 threads=1');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'vmlinux by its PVH note',
    async () => {
      const { stdout, exitCode } = await boot({ cpus: 2, flags: ['--boot', 'pvh'] });

      expect(stdout).toContain('VOLT-GUEST cpus=2 sockets=1 cores=2 threads=1');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'with the TSC-deadline timer IRQ 0 stays ExtINT, as the seed has it',
    async () => {
      const { stdout } = await boot({ cpus: 2, words: 'apic=debug' });

      expect(stdout).toContain('TSC deadline timer available');
      expect(stdout).toContain('Int: type 3, pol 0, trig 0, bus 00, IRQ 00, APIC ID 2, APIC INT 00');
      expect(stdout).toContain('VOLT-GUEST done');
    },
    LINUX_TEST,
  );

  thorough(
    'without it the guest needs the PIT, IRQ 0 is INT, and Linux still boots',
    async () => {
      const { stdout, exitCode } = await boot({
        cpus: 2,
        words: 'apic=debug lapic=notscdeadline no-kvmclock',
      });

      expect(stdout).toContain('Int: type 0, pol 0, trig 0, bus 00, IRQ 00, APIC ID 2, APIC INT 00');
      expect(stdout).toContain('VOLT-GUEST cpus=2');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'two threads a core: user space sees one core',
    async () => {
      const config = join(cache, 'smt.json');
      const machine = { vcpu_count: 2, mem_size_mib: 512, smt: true };
      const source = {
        kernel_image_path: kernel.vmlinux,
        initrd_path: initrd,
        boot_args: 'console=ttyS0 reboot=k panic=-1',
      };
      await Bun.write(config, JSON.stringify({ 'boot-source': source, 'machine-config': machine }));

      const { stdout, exitCode } = await runOnLinuxHost(
        [VOLT, '--config', config, '--no-reboot'],
        BOOT_SECONDS,
      );

      expect(stdout).toContain('VOLT-GUEST cpus=2 sockets=1 cores=1 threads=2');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'a panic resets, so Volt ends and the console has the whole message',
    async () => {
      const { stdout, exitCode } = await boot({ cpus: 1, words: 'volt.end=panic' });

      expect(stdout).toContain('Kernel panic - not syncing: sysrq triggered crash');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  thorough(
    'the timeline tells the phases, and when each AP started',
    async () => {
      const { stderr } = await boot({ cpus: 2, flags: ['--timeline'] });

      const phases = [...stderr.matchAll(/^\s*([\d.]+) ms {2}(.+)$/gm)].map((match) => match[2]);
      expect(phases[0]).toBe('process start');
      expect(phases).toContain('kernel loaded');
      expect(phases.indexOf('vCPU 1 waits for SIPI')).toBeGreaterThan(0);
      expect(phases.indexOf('vCPU 1 started')).toBeGreaterThan(phases.indexOf('first guest instruction'));
      expect(phases).toContain('first console byte');
    },
    LINUX_TEST,
  );
});
