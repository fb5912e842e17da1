/** Debian's gdb on Debian's Linux by the addresses of /proc/kallsyms, and a core file. One boot where KVM is emulated. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { runsLinuxHere } from '../../scripts/linux-capable.ts';
import { testNeeding } from '../support/needs.ts';
import {
  beforeAll,
  EVERY_BOOT,
  LINUX_TEST,
  runOnLinuxHost,
  stopLinuxHost,
  thorough,
  type CommandResult,
} from './linux-host.ts';

const SECONDS = 240;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'gdb-initrd');
let kernel: DebianKernel;

/** Each beat sleeps by the system call that the breakpoint is in. */
const GUEST = `
grep -E ' (__x64_sys_clock_nanosleep|__x64_sys_nanosleep|jiffies|linux_banner)$' /proc/kallsyms | while read -r at _ name; do
  echo "VOLT-GUEST symbol $name=0x$at"
done
n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); sleep 0.2; echo "VOLT-GUEST beat $n"; done
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  kernel = await fetchDebianKernel('amd64');
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { modules: [], script: GUEST }));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

async function runRounds(...words: readonly string[]): Promise<CommandResult> {
  const rounds = join(import.meta.dir, 'gdb-rounds.ts');
  return runOnLinuxHost([process.execPath, rounds, kernel.vmlinux, initrd, ...words], SECONDS);
}

thorough(
  'gdb stops Linux, steps it and reads its memory by its page tables; a core file has that too, and VMCOREINFO',
  async () => {
    const { stdout, stderr, exitCode } = await runRounds();

    expect(stdout).toMatch(/Thread 2 "vCPU 1" \(AP, APIC id 1, \w+\)/);
    expect(stdout).toMatch(/= \[ PE .*PG \]/);
    expect(stdout).toMatch(/stepped ?1\n/);
    expect(stdout).toMatch(/\nbanner: ?0x.*Linux version 6\./);
    expect(stdout).toMatch(/dump: .*"truncated":false,"vmcoreinfo":true/);
    expect(stdout).toContain('core threads: 2\n');
    expect(stdout).toMatch(/core banner: ?0x.*Linux version 6\./);
    expect(stdout).toContain('it beats on');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);

/** QEMU without KVM, which emulates the nested host, intercepts no INT3 of a guest and knows no DR7 of a VMCB. */
const onHardware = testNeeding('VOLT_TEST_LINUX=all and KVM on hardware', !EVERY_BOOT || !runsLinuxHere());

onHardware(
  'gdb breaks in a system call of Linux, and watches jiffies',
  async () => {
    const { stdout, exitCode } = await runRounds('breakpoints');

    expect(stdout).toMatch(/Thread \d "vCPU \d" hit Breakpoint 1, 0xffffffff[0-9a-f]+ in/);
    expect(stdout).toMatch(/Hardware watchpoint 2: .*\n\nOld value = (\d+)\nNew value = (\d+)/);
    expect(stdout).toContain('it beats on');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
