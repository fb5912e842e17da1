import { expect, test } from 'bun:test';
import type { VoltError } from '../../../../src/volt-error.ts';
import { checkHostCpu } from '../../../../src/vmm/state/cpu-of-kvm.ts';
import { AMD, INTEL } from '../../cpuid/hosts.ts';
import { describedGuest } from './described-guest.ts';

const caught = (act: () => void): unknown => {
  try {
    return act();
  } catch (error) {
    return error;
  }
};

test('a host with all that the guest has seen is let through without a word', () => {
  const warnings: string[] = [];

  checkHostCpu(describedGuest(INTEL), { cpuid: INTEL }, (line) => warnings.push(line));

  expect(warnings).toEqual([]);
});

test('a host without it is refused with a line for each register, and warned of for the rest', () => {
  const warnings: string[] = [];
  const guest = describedGuest(INTEL);

  const error = caught(() => checkHostCpu(guest, { cpuid: AMD }, (line) => warnings.push(line)));

  const { code, details } = error as VoltError;
  expect(code).toBe('host');
  expect(details[0]).toBe("CPUID 0x0: the guest's vendor is GenuineIntel, this host's is AuthenticAMD");
  expect(details.slice(1).every((line) => /^(CPUID 0x\S+( E[A-D]X)?|MSR|TSC): [^\n]+$/.test(line))).toBe(
    true,
  );
  expect(details.length).toBeGreaterThan(2);
  expect(warnings[0]).toMatch(/^CPUID 0x1 EAX: the guest has seen family 6/);
});
