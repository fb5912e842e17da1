/**
 * Words on a Linux kernel's command line: where words that Volt adds belong, and words that contradict the machine.
 * (Linux Documentation/admin-guide/kernel-parameters.rst and .txt)
 */

/** The machine as far as words of the command line can contradict it. */
export interface MachineFeatures {
  readonly acpi: boolean;
  readonly mpTables: boolean;
  readonly cpus: number;
  readonly maxCpus: number;
  readonly numa: boolean;
}

/** Words separated by spaces; a part in double quotes belongs to its word. */
function splitWords(cmdline: string): string[] {
  return cmdline.match(/(?:"[^"]*"?|[^\s"])+/g) ?? [];
}

/** The kernel's own words: those before the first `--`, behind which arguments of init stand. */
export function kernelWords(cmdline: string): string[] {
  const words = splitWords(cmdline);
  const end = words.indexOf('--');
  return end < 0 ? words : words.slice(0, end);
}

/** Adds words for the kernel: at the end, or before the first `--` that stands outside quotes. */
export function addKernelWords(cmdline: string, added: readonly string[]): string {
  const text = added.filter((words) => words !== '').join(' ');
  if (text === '') return cmdline;
  const end = findInitArguments(cmdline);
  const [own, ofInit] = [cmdline.slice(0, end).trimEnd(), cmdline.slice(end)];
  return [own, text, ofInit].filter((part) => part !== '').join(' ');
}

/** Index of the first `--` that is a word of its own outside quotes; the length where there is none. */
function findInitArguments(cmdline: string): number {
  for (const match of cmdline.matchAll(/(?:"[^"]*"?|[^\s"])+/g)) if (match[0] === '--') return match.index;
  return cmdline.length;
}

/** Whether the command line names a root device itself. */
export function namesRoot(cmdline: string): boolean {
  return lastValue(kernelWords(cmdline), 'root') !== undefined;
}

/** Whether the kernel will not look at ACPI tables although the machine has them. */
export function turnsAcpiOff(cmdline: string): boolean {
  return lastValue(kernelWords(cmdline), 'acpi') === 'off';
}

interface Contradiction {
  readonly applies: (words: readonly string[], machine: MachineFeatures) => string | undefined;
  readonly consequence: (machine: MachineFeatures) => string;
}

/** The first of `names` that is among the words, with or without a value. */
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
      'this machine routes its interrupts through the I/O APIC alone, and Linux panics without it; drop the word',
  },
  {
    applies: (words, machine) =>
      usesAcpi(words, machine) ? words.find((word) => word === 'nosmp' || word === 'maxcpus=0') : undefined,
    consequence: () =>
      'it turns the I/O APIC off as well, without which Linux panics on this machine; use --cpus 1, or maxcpus=1',
  },
  {
    applies: anyOf('nolapic', 'disableapic'),
    consequence: () =>
      'the local APIC is where this machine delivers every interrupt, timers included; drop the word',
  },
  {
    applies: anyOf('nolapic_timer', 'noapictimer'),
    consequence: () => 'the local APIC timer is the only timer interrupt of this machine; drop the word',
  },
  {
    applies: (words, machine) =>
      usesAcpi(words, machine) && !words.some((word) => word.startsWith('tsc_early_khz='))
        ? anyOf('no-kvmclock')(words)
        : undefined,
    consequence: () =>
      'without kvmclock Linux calibrates the TSC by a PIT, HPET or PM timer, which hardware-reduced ACPI has not, and hangs; drop the word, or add tsc_early_khz=KHZ or --no-acpi',
  },
  {
    applies: (words) =>
      words.find((word) => /^clocksource=(hpet|acpi_pm|pit)$/.test(word) || word === 'hpet=force'),
    consequence: () => 'this machine has no such timer; kvm-clock and tsc are there',
  },
  {
    applies: (words, { maxCpus }) =>
      words.find((word) => {
        const limit = /^(?:maxcpus|nr_cpus)=(\d+)$/.exec(word)?.[1];
        return limit !== undefined && Number(limit) > 0 && Number(limit) < maxCpus;
      }),
    consequence: ({ maxCpus }) => `the guest leaves the rest of its ${maxCpus} vCPUs alone`,
  },
  {
    applies: (words, machine) => {
      const lost = machine.maxCpus > machine.cpus || machine.numa || (machine.cpus > 1 && !machine.mpTables);
      return machine.acpi && lost && lastValue(words, 'acpi') === 'off' ? 'acpi=off' : undefined;
    },
    consequence: ({ mpTables, cpus }) =>
      cpus > 1 && !mpTables
        ? 'without ACPI and MP tables the guest finds one CPU only'
        : 'without ACPI the guest learns nothing of NUMA nodes and plugged CPUs',
  },
];

/** One sentence for each word that will not do what its author expects on this machine. */
export function contradictingWords(cmdline: string, machine: MachineFeatures): string[] {
  const words = kernelWords(cmdline);
  return CONTRADICTIONS.flatMap(({ applies, consequence }) => {
    const word = applies(words, machine);
    return word === undefined ? [] : [`${word} on the kernel's command line: ${consequence(machine)}`];
  });
}

/** Value of the last word `name=…`, which is the one that counts; undefined without one. */
function lastValue(words: readonly string[], name: string): string | undefined {
  return words.findLast((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
}
