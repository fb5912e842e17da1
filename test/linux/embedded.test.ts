/** The embedded SMP kernel where ring 0 is native: on VMX or SVM, here or in the nested host. */
import { afterAll, describe, expect } from 'bun:test';
import { LINUX_TEST, runOnLinuxHost, stopLinuxHost, test, VOLT } from './linux-host.ts';

/** Bounds for a hang only. */
const SECONDS = 120;

afterAll(stopLinuxHost);

describe('the embedded kernel on native ring 0', () => {
  test(
    'volt alone brings up 2 CPUs, reports and exits 0',
    async () => {
      const { stdout, exitCode } = await runOnLinuxHost([VOLT], SECONDS);

      expect(stdout).toContain('x2APIC enabled on BSP');
      expect(stdout).toContain('Found 2 CPUs');
      expect(stdout).toContain('Boot trampoline copied to 0x8000');
      expect(stdout).toContain('CPU 1 online! APIC ID: 1');
      expect(stdout).toContain('All CPUs started!');
      expect(stdout).toContain('Agreement: yes (0 complaints)');
      expect(stdout).toContain('Ring 0: native');
      expect(stdout).toContain('PASS');
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  test(
    'volt selftest passes with 1, 2, 3 CPUs, and its JSON says so',
    async () => {
      const { stdout, exitCode } = await runOnLinuxHost(
        [VOLT, 'selftest', '--cpus', '3', '--quick', '--json'],
        SECONDS,
      );

      const { passed, runs } = JSON.parse(stdout) as {
        passed: boolean;
        runs: { cpus: number; online: number; tablesAgree: boolean }[];
      };
      expect(passed).toBe(true);
      expect(runs.map(({ cpus, online, tablesAgree }) => [cpus, online, tablesAgree])).toEqual([
        [1, 1, true],
        [2, 2, true],
        [3, 3, true],
      ]);
      expect(exitCode).toBe(0);
    },
    LINUX_TEST,
  );

  test(
    'a deliberate fault is reported with the CPU on which it happened',
    async () => {
      const triple = await runOnLinuxHost([VOLT, '--cmdline', 'fault=triple'], SECONDS);
      const exception = await runOnLinuxHost([VOLT, '--cmdline', 'fault=exception'], SECONDS);

      expect(triple.stderr).toContain('guest crashed: triple fault on vCPU 1');
      // On AMD, as in the nested host, KVM has reset the vCPU: its registers are then said to be lost.
      expect(triple.stderr).toMatch(/its registers are lost|rip {4}[0-9a-f]{16}/);
      expect(triple.stderr).not.toContain('vCPU 1: running, RIP 0xfff0');
      expect(triple.exitCode).toBe(3);
      expect(exception.stdout).toContain('PANIC on CPU 1 (APIC ID 1): #PF page fault');
      expect(exception.stderr).toContain('guest reported failure: status 2 from vCPU 1');
      expect(exception.exitCode).toBe(66);
    },
    LINUX_TEST,
  );
});
