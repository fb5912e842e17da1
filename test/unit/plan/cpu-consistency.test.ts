/** All accounts of the CPUs that a guest gets, read back from the bytes of thousands of machines, agree. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { parseConfig } from '../../../src/config/config.ts';
import type { CpuidLevel } from '../../../src/cpuid/describe.ts';
import { findCpuInconsistencies } from '../../../src/plan/cpu-consistency.ts';
import { inspectPlan } from '../../../src/plan/inspection.ts';
import { planImage, planMachine, type MachinePlan } from '../../../src/plan/plan.ts';
import { buildElf, LINUX_NOTE } from '../boot/images.ts';
import { seededRandom, type Random } from '../support/random.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const KERNEL = bytesAsSource('kernel', buildElf({ notes: LINUX_NOTE }));

function planOf(volt: Readonly<Record<string, unknown>>, cpus: number): MachinePlan {
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: 'kernel' },
    'machine-config': { vcpu_count: cpus, mem_size_mib: 128 },
    volt,
  });
  return planMachine(
    config,
    planImage(config, KERNEL, undefined),
    { tscDeadline: true, vmGenerationId: new Uint8Array(16) },
    { pmemBytes: [] },
  );
}

function randomMachine(random: Random): MachinePlan {
  const levels = { dies: random.int(1, 3), cores: random.int(1, 7), threads: random.int(1, 3) };
  const cpus = random.int(1, 64);
  const nodes = random.int(0, 3);
  const volt = {
    ...levels,
    max_cpus: cpus + random.int(0, 1) * random.int(1, 20),
    boot_cpu: random.int(0, cpus - 1),
    numa: Array.from({ length: nodes }, () => ({})),
    acpi: true,
  };
  return planOf(volt, cpus);
}

test.each(['GenuineIntel', 'AuthenticAMD'] as const)(
  'thousands of %s machines: MADT, SRAT, PPTT, MP tables and CPUID say the same',
  (vendor) => {
    const random = seededRandom(vendor.length);
    const problems = Array.from(
      { length: 1000 },
      () => inspectPlan(randomMachine(random), '', vendor).problems,
    );
    expect(problems.filter((each) => each.length > 0)).toEqual([]);
  },
);

/** Every combination of small counts that a configuration may have: partly filled cores, dies, sockets and all. */
function* smallLayouts() {
  const levels = [undefined, 1, 2, 3];
  for (const cpus of [1, 2, 3, 4, 5, 6, 8])
    for (const max_cpus of [undefined, cpus + 1, 2 * cpus])
      for (const threads of levels)
        for (const cores of levels)
          for (const dies of [undefined, 2])
            for (const sockets of levels) yield { cpus, max_cpus, threads, cores, dies, sockets };
}

/** undefined for a layout that configurations refuse, such as sockets that would be empty. */
function layoutPlan({ cpus, ...counts }: { cpus: number }): MachinePlan | undefined {
  try {
    return planOf(counts, cpus);
  } catch {
    return undefined;
  }
}

test.each(['GenuineIntel', 'AuthenticAMD'] as const)('all small layouts of %s machines agree', (vendor) => {
  const plans = [...smallLayouts()].map(layoutPlan).filter((plan) => plan !== undefined);
  const partlyFilled = plans.filter(
    ({ present, topology }) =>
      present % (topology.threadsPerCore * topology.coresPerDie * topology.diesPerSocket) !== 0,
  );

  const problems = plans.flatMap((plan) => inspectPlan(plan, '', vendor).problems);

  expect(problems).toEqual([]);
  expect(plans.length).toBeGreaterThan(1000);
  expect(partlyFilled.length).toBeGreaterThan(300);
});

describe('levels of CPUID', () => {
  /** What is found once `change` has been made to the levels of every CPU: thread and core, here of one package. */
  const problemsWith = (change: (levels: readonly CpuidLevel[]) => readonly CpuidLevel[]) => {
    const { cpus } = inspectPlan(planOf({ threads: 2, max_cpus: 6 }, 3), '', 'AuthenticAMD');
    const changed = cpus.map((cpu) => ({
      ...cpu,
      cpuid: { ...cpu.cpuid, levels: change(cpu.cpuid.levels) },
    }));
    return findCpuInconsistencies({ cpus: changed, mpTable: undefined, acpi: undefined });
  };

  test('may have room for more CPUs than there are', () => {
    expect(problemsWith(([thread, core]) => [thread!, { ...core!, logicalProcessors: 8 }])).toEqual([]);
  });

  test('may not have room for fewer', () => {
    expect(problemsWith(([thread, core]) => [thread!, { ...core!, logicalProcessors: 5 }])).toContain(
      'CPU 0: the core level of CPUID has a capacity of 5 CPUs, but there are 6',
    );
  });

  test('may not have room for more than their bits of an APIC id can number', () => {
    expect(problemsWith(([thread, core]) => [thread!, { ...core!, logicalProcessors: 9 }])).toContain(
      'CPU 0: the core level of CPUID has a capacity of 9 CPUs, but an APIC id field of 3 bits',
    );
  });

  test('divide APIC ids into the packages and cores of the topology', () => {
    expect(problemsWith(([thread, core]) => [thread!, { ...core!, shift: 2 }])).toContain(
      'CPUs 3 and 4: CPUID and the topology differ on whether they share a package',
    );
    expect(problemsWith(([thread, core]) => [{ ...thread!, shift: 0 }, core!])).toContain(
      'CPUs 0 and 1: CPUID and the topology differ on whether they share a core',
    );
  });
});

test('large machines too, whose ids need x2APIC', () => {
  for (const cpus of [254, 255, 256, 300, 1000]) {
    for (const threads of [1, 2]) {
      const plan = planOf({ threads, cores: 60, numa: [{}, {}] }, cpus);
      expect(inspectPlan(plan, '', 'GenuineIntel').problems).toEqual([]);
    }
  }
});

describe('a change of the bytes is found', () => {
  const tamper = (name: string, change: (bytes: Uint8Array, view: DataView) => void) => {
    const plan = planOf({ numa: [{}, {}], max_cpus: 6, sockets: 2, threads: 2 }, 4);
    const { bytes } = plan.writes.find((write) => write.name === name)!;
    change(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
    const sum = bytes.reduce((total, byte) => total + byte, 0);
    bytes[9] = bytes[9]! - sum;
    return inspectPlan(plan, '', 'GenuineIntel').problems;
  };

  test('in an APIC id of the MADT', () => {
    expect(tamper('acpi-madt', (bytes) => (bytes[44 + 8 + 3] = 9))).toContain(
      'CPU 1: the APIC id in the MADT is 9 (expected 1)',
    );
  });

  test('in the enabled flag of the MADT', () => {
    expect(tamper('acpi-madt', (bytes) => (bytes[44 + 8 + 4] = 2))).toContain(
      'CPU 1: the MADT and the machine differ on whether it is present',
    );
  });

  test('in a node of the SRAT', () => {
    expect(tamper('acpi-srat', (bytes) => (bytes[48 + 2] = 1))).toContain(
      'CPU 0: the node in the SRAT is 1 (expected 0)',
    );
  });
});
