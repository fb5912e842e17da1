/**
 * Parameters on a Linux kernel's command line: where Volt inserts its own, and which of the user's contradict
 * the machine. (Linux Documentation/admin-guide/kernel-parameters.rst and .txt)
 */

/** Properties of the machine that parameters on the command line can contradict. */
export interface MachineFeatures {
  readonly acpi: boolean;
  readonly mpTables: boolean;
  readonly cpus: number;
  readonly maxCpus: number;
  readonly numa: boolean;
}

/** Splits at spaces outside double quotes. */
function splitWords(cmdline: string): string[] {
  return cmdline.match(/(?:"[^"]*"?|[^\s"])+/g) ?? [];
}

/** The kernel's own parameters: those before the first `--`; the rest are arguments of init. */
export function kernelWords(cmdline: string): string[] {
  const words = splitWords(cmdline);
  const end = words.indexOf('--');
  return end < 0 ? words : words.slice(0, end);
}

/** Adds kernel parameters at the end, or before the first `--` outside quotes. */
export function addKernelWords(cmdline: string, added: readonly string[]): string {
  const text = added.filter((words) => words !== '').join(' ');
  if (text === '') return cmdline;
  const end = findInitArguments(cmdline);
  const [own, ofInit] = [cmdline.slice(0, end).trimEnd(), cmdline.slice(end)];
  return [own, text, ofInit].filter((part) => part !== '').join(' ');
}

/** Index of the first separate `--` outside quotes; the length if there is none. */
function findInitArguments(cmdline: string): number {
  for (const match of cmdline.matchAll(/(?:"[^"]*"?|[^\s"])+/g)) if (match[0] === '--') return match.index;
  return cmdline.length;
}

/** Whether the command line names a root device itself. */
export function namesRoot(cmdline: string): boolean {
  return lastValue(kernelWords(cmdline), 'root') !== undefined;
}

/** Whether the command line makes the kernel ignore ACPI tables. */
export function turnsAcpiOff(cmdline: string): boolean {
  return lastValue(kernelWords(cmdline), 'acpi') === 'off';
}

interface Contradiction {
  readonly applies: (words: readonly string[], machine: MachineFeatures) => string | undefined;
  readonly consequence: (machine: MachineFeatures) => string;
}

/** The first word that is one of `names`, with or without a value. */
const anyOf =
  (...names: readonly string[]) =>
  (words: readonly string[]) =>
    words.find((word) => names.includes(word) || names.includes(word.split('=')[0]!));

const usesAcpi = (words: readonly string[], { acpi }: MachineFeatures) =>
  acpi && lastValue(words, 'acpi') !== 'off';

const CONTRADICTIONS: readonly Contradiction[] = [
  {
    applies: (words, machine) => (usesAcpi(words, machine) ? anyOf('noapic')(words) : undefined),
    consequence: () =>
      'this machine routes interrupts through the I/O APIC only, and Linux panics without it; remove the parameter',
  },
  {
    applies: (words, machine) =>
      usesAcpi(words, machine) ? words.find((word) => word === 'nosmp' || word === 'maxcpus=0') : undefined,
    consequence: () =>
      'it also turns off the I/O APIC, without which Linux panics on this machine; use --cpus 1, or maxcpus=1',
  },
  {
    applies: anyOf('nolapic', 'disableapic'),
    consequence: () =>
      'this machine delivers every interrupt, timers included, to the local APIC; remove the parameter',
  },
  {
    applies: anyOf('nolapic_timer', 'noapictimer'),
    consequence: () =>
      'the local APIC timer is the only timer interrupt of this machine; remove the parameter',
  },
  {
    applies: (words, machine) =>
      usesAcpi(words, machine) && !words.some((word) => word.startsWith('tsc_early_khz='))
        ? anyOf('no-kvmclock')(words)
        : undefined,
    consequence: () =>
      'without kvmclock Linux calibrates the TSC by a PIT, HPET or PM timer, which hardware-reduced ACPI does not have, and hangs; remove the parameter, or add tsc_early_khz=KHZ or --no-acpi',
  },
  {
    applies: (words) =>
      words.find((word) => /^clocksource=(hpet|acpi_pm|pit)$/.test(word) || word === 'hpet=force'),
    consequence: () => 'this machine does not have that timer; use kvm-clock or tsc',
  },
  {
    applies: (words, { maxCpus }) =>
      words.find((word) => {
        const limit = /^(?:maxcpus|nr_cpus)=(\d+)$/.exec(word)?.[1];
        return limit !== undefined && Number(limit) > 0 && Number(limit) < maxCpus;
      }),
    consequence: ({ maxCpus }) => `the guest does not use the rest of its ${maxCpus} vCPUs`,
  },
  {
    applies: (words, machine) => {
      const lost = machine.maxCpus > machine.cpus || machine.numa || (machine.cpus > 1 && !machine.mpTables);
      return machine.acpi && lost && lastValue(words, 'acpi') === 'off' ? 'acpi=off' : undefined;
    },
    consequence: ({ mpTables, cpus }) =>
      cpus > 1 && !mpTables
        ? 'without ACPI and MP tables the guest finds one CPU only'
        : 'without ACPI the guest has no NUMA nodes and no CPU hotplug',
  },
];

/** One sentence for each parameter that will not work as intended on this machine. */
export function contradictingWords(cmdline: string, machine: MachineFeatures): string[] {
  const words = kernelWords(cmdline);
  return CONTRADICTIONS.flatMap(({ applies, consequence }) => {
    const word = applies(words, machine);
    return word === undefined ? [] : [`${word} on the kernel's command line: ${consequence(machine)}`];
  });
}

/** Value of the last parameter `name=…`, which is the effective one; undefined without one. */
function lastValue(words: readonly string[], name: string): string | undefined {
  return words.findLast((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
}
