/** A Linux with 2 busy CPUs is saved and restored under ordinary KVM: registers, clock and timers go on. One boot. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { buildGuestInitrd } from '../../scripts/initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough } from './linux-host.ts';

const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'state-initrd');
const SECONDS = 380;
const ROUNDS = 2;
const CPUS = 2;
let kernel: DebianKernel;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await Bun.write(initrd, await buildGuestInitrd());
  kernel = await fetchDebianKernel('amd64');
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a saved and restored Linux has the same registers, and its clock and all of its CPUs go on',
  async () => {
    const script = join(import.meta.dir, 'state-rounds.ts');
    const argv = [process.execPath, script, kernel.vmlinux, initrd, String(CPUS), String(ROUNDS)];

    const { stdout, stderr, exitCode } = await runOnLinuxHost(argv, SECONDS);

    const rounds = [...stdout.matchAll(/^ROUND (.*)$/gm)].map(([, json]) => JSON.parse(json!) as object);
    const beats = [...stdout.matchAll(/VOLT-GUEST beat (\d+)/g)].map(([, beat]) => Number(beat));
    expect(rounds).toEqual(
      Array(ROUNDS).fill({
        found: Array(CPUS).fill([]),
        sregs: 0x140,
        xsave: expect.any(Number),
        xcrs: 0x188,
      }),
    );
    expect(stdout).not.toContain('WARNING');
    expect(beats.length).toBeGreaterThan(2 * ROUNDS);
    expect(beats).toEqual(beats.map((_, i) => i + 1));
    expect(stdout).not.toMatch(/soft lockup|rcu.*stall|unstable|Call Trace/);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
