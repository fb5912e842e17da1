import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { parseCpuinfo, readHostCpu } from '../../../src/api/host-cpu.ts';
import { vendorOf } from '../../../src/cpuid/leaf.ts';
import { compareCpu, modelOf } from '../../../src/vmm/state/cpu-compatibility.ts';
import { AMD, guestsOf, INTEL } from '../cpuid/hosts.ts';

const XEON = `processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) w9-3475X
stepping\t: 8
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss syscall nx pdpe1gb rdtscp lm pni avx512f

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu
`;

test('vendor and model of /proc/cpuinfo are those of leaf 0 and 1', () => {
  const intel = parseCpuinfo(XEON).cpuid;
  const epyc = XEON.replace('GenuineIntel', 'AuthenticAMD')
    .replace(': 6\n', ': 26\n')
    .replace(': 143\n', ': 2\n')
    .replace('stepping\t: 8', 'stepping\t: 1');
  const amd = parseCpuinfo(epyc).cpuid;

  expect([vendorOf(intel), modelOf(intel)]).toEqual(['GenuineIntel', modelOf(INTEL)]);
  expect([vendorOf(amd), modelOf(amd)]).toEqual(['AuthenticAMD', modelOf(AMD)]);
});

describe('by /proc/cpuinfo', () => {
  const topology = { sockets: 1, diesPerSocket: 1, coresPerDie: 1, threadsPerCore: 1 };
  const tables = guestsOf(INTEL, topology).map(({ table }) => table);
  const needs = { tables, msrs: new Map([[0x1234, 5n]]), tscKhz: 2_000_000 };

  test('a missing flag is a refusal, whatever other processors have', () => {
    const { differences } = compareCpu(needs, parseCpuinfo(XEON));
    const missing = differences.flatMap((each) => each.missing);

    expect(missing).toContain('avx2');
    expect(missing).toContain('sse4_2');
    expect(missing).not.toContain('avx512f');
    expect(missing).not.toContain('fpu');
  });

  test('what it does not tell is not missing: KVM, MSRs, TSC, sizes', () => {
    const places = compareCpu(needs, parseCpuinfo(XEON)).differences.map(({ where }) => where);

    expect(places.filter((where) => !/^CPUID 0x(1|7\.0|80000001) E[BCD]X$/.test(where))).toEqual([]);
  });

  test('any text is taken', () => {
    expect(compareCpu(needs, parseCpuinfo('')).verdict).toBe('refusal');
  });
});

test("this host's own CPU is described, by KVM or by /proc/cpuinfo", () => {
  const { cpu, source } = readHostCpu();
  const vendor = /vendor_id\s*: (\w+)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];

  expect(vendorOf(cpu.cpuid)).toBe(vendor!);
  expect(source === 'kvm').toBe(cpu.known === undefined);
});
