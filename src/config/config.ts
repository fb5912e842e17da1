/**
 * Validation of all configuration. Flags and files both arrive here in the format of Firecracker's
 * --config-file (sections in kebab-case, keys in snake_case, and a section `volt` for settings that
 * Firecracker does not have), and become a VmConfig. All other code sees validated input only.
 */
import * as v from 'valibot';
import type { CpuTemplate } from '../cpuid/cpu-template.ts';
import { STATIC_TEMPLATES, staticTemplate } from '../cpuid/static-templates.ts';
import { MIB } from '../machine/address.ts';
import { MP_TABLE_MAX_CPUS } from '../smp/mp-table.ts';
import { resolveNuma, type NumaPlan } from '../smp/numa.ts';
import { placeCpus, resolveTopology, type Topology } from '../smp/topology.ts';
import { VoltError } from '../volt-error.ts';
import {
  AffinitySchema,
  ConsoleSchema,
  HangReportSchema,
  PciSlotsSchema,
  MAXIMUM_MEMORY_MIB,
  memoryOfNodes,
  MINIMUM_MEMORY_MIB,
  NumaSchema,
  toNumaRequest,
  type ConsoleConfig,
} from './machine-values.ts';
import { CpuTemplateSchema } from './cpu-template-config.ts';
import { filePath, flag, found, isSection, oneOf, optional, section, wholeNumber } from '../schema/values.ts';
import { placeDevices, planPciBuses, virtioCmdline, type PciBusPlan } from '../virtio/host/placement.ts';
import { addKernelWords, contradictingWords, turnsAcpiOff } from './kernel-words.ts';
import { checkDevices, parseDevices, resolveQueues, rootWord, unknownDeviceKeys } from './devices.ts';
import type { DeviceConfig } from '../virtio/host/specs.ts';

/** vCPUs if the configuration has no count. */
export const DEFAULT_CPUS = 2;
/**
 * `reboot=k` resets through the i8042, which every kernel supports; `panic=-1` resets at once after a panic.
 */
export const DEFAULT_CMDLINE = 'console=ttyS0 reboot=k panic=-1';

/** Longer than the timeouts of Linux's own watchdogs (about 21 seconds), which print more details. */
export const DEFAULT_HANG_REPORT_SECONDS = 30;
const HUGE_PAGE_MIB = 2;

/** Limit of vCPUs, present or hot-pluggable; the host's KVM may allow fewer. */
export const MAX_CPUS = 4096;
/** Limit of the count at one level of the topology. */
const MAX_LEVEL = 1024;
export const REBOOT_ACTIONS = ['restart', 'always', 'exit'] as const;
/**
 * Exit code for a status n that the guest wrote to port 0xF4: 64 + n, or 2n + 1 as with QEMU's
 * isa-debug-exit.
 */
export const EXIT_CODE_STYLES = ['volt', 'qemu'] as const;
export type ExitCodeStyle = (typeof EXIT_CODE_STYLES)[number];
/** Boot protocols by the names that `--boot` and `volt.boot` take. */
export const BOOT_PROTOCOLS = ['linux', 'bzimage', 'pvh', 'multiboot'] as const;

/** A validated machine configuration: the result of `parseConfig`, and the argument of `VirtualMachine`. */
export interface VmConfig {
  /** What it was parsed from: `parseConfig` of it gives the same configuration. */
  readonly input: ConfigInput;
  /** undefined: the embedded SMP kernel. */
  readonly kernelPath: string | undefined;
  readonly initrdPath: string | undefined;
  /** Names of these files in errors: the flag or key that they came from. */
  readonly fileNames: { readonly kernel: string; readonly initrd: string; readonly symbols: string };
  readonly cmdline: string;
  /** vCPUs at the start. */
  readonly cpus: number;
  /** Limit of vCPUs that hotplug can reach. */
  readonly maxCpus: number;
  /** Whether vCPUs can be plugged and removed while the guest runs. */
  readonly cpuHotplug: boolean;
  /** Covers `maxCpus` vCPUs. */
  readonly topology: Topology;
  /** What guests see of the CPU otherwise than KVM has it; undefined: nothing. */
  readonly cpuTemplate: CpuTemplate | undefined;
  readonly memoryBytes: number;
  readonly hugepages: boolean;
  /** undefined: no NUMA nodes. */
  readonly numa: NumaPlan | undefined;
  readonly acpi: boolean;
  readonly mpTables: boolean;
  /**
   * Action on a reset by the guest: `restart` ends a guest that keeps resetting itself, `always` does not.
   */
  readonly reboot: (typeof REBOOT_ACTIONS)[number];
  readonly exitCodeStyle: ExitCodeStyle;
  readonly console: ConsoleConfig;
  /** Index of the vCPU that is the BSP. */
  readonly bootCpu: number;
  /** Host CPUs that each vCPU's thread may run on, by vCPU index; others run anywhere. */
  readonly affinity: ReadonlyMap<number, readonly number[]>;
  readonly boot: (typeof BOOT_PROTOCOLS)[number] | undefined;
  /** undefined: the devices are on MMIO. */
  readonly pci: PciBusPlan | undefined;
  /** Virtio devices, in the order of their slots. */
  readonly devices: readonly DeviceConfig[];
  /** System.map or ELF file with the guest's symbols; undefined: those of the kernel file itself. */
  readonly symbolsPath: string | undefined;
  /** Seconds without progress after which a hang is reported; 0: never. */
  readonly hangReportSeconds: number;
}

/** Every section and key that has an effect. */
export const SECTIONS = {
  'boot-source': {
    kernel_image_path: optional(filePath),
    initrd_path: optional(filePath),
    boot_args: optional(v.string((issue) => `${found(issue.input)} (expected a string)`)),
  },
  'machine-config': {
    vcpu_count: v.optional(wholeNumber(1, MAX_CPUS), DEFAULT_CPUS),
    mem_size_mib: v.optional(wholeNumber(MINIMUM_MEMORY_MIB, MAXIMUM_MEMORY_MIB, ' MiB')),
    smt: optional(flag, false),
    // RAM is always advised to be backed by huge pages, which is what `Transparent` asks for.
    huge_pages: optional(oneOf(['None', 'Transparent', '2M']), 'None'),
    cpu_template: optional(oneOf(['None', ...STATIC_TEMPLATES]), 'None'),
  },
  volt: {
    console: optional(ConsoleSchema, 'stdio'),
    boot_cpu: optional(wholeNumber(0, MAX_CPUS - 1), 0),
    max_cpus: optional(wholeNumber(1, MAX_CPUS)),
    sockets: optional(wholeNumber(1, MAX_LEVEL)),
    dies: optional(wholeNumber(1, MAX_LEVEL)),
    cores: optional(wholeNumber(1, MAX_LEVEL)),
    threads: optional(wholeNumber(1, MAX_LEVEL)),
    numa: optional(NumaSchema, []),
    acpi: optional(flag, true),
    mp_tables: optional(flag, true),
    reboot: optional(oneOf(REBOOT_ACTIONS), 'restart'),
    exit_code: optional(oneOf(EXIT_CODE_STYLES), 'volt'),
    cpu_affinity: optional(AffinitySchema, ''),
    boot: optional(oneOf(BOOT_PROTOCOLS)),
    symbols: optional(filePath),
    virtio_cmdline: optional(flag, false),
    pci: optional(flag, false),
    /** Slots of the devices, in their order: a snapshot has those that its guest knows. */
    pci_slots: optional(PciSlotsSchema),
    hang_report_s: optional(HangReportSchema, DEFAULT_HANG_REPORT_SECONDS),
  },
} as const;

/** Keys of Firecracker's files that have no effect in Volt. */
const IGNORED_SILENTLY = new Set(['machine-config.track_dirty_pages', '$schema']);

const FileSchema = v.object(
  {
    'boot-source': optional(section(SECTIONS['boot-source']), {}),
    'machine-config': optional(section(SECTIONS['machine-config']), {}),
    'cpu-config': CpuTemplateSchema,
    volt: optional(section(SECTIONS.volt), {}),
  },
  (issue) => `${found(issue.input)} (expected an object)`,
);

function toVmConfig(
  input: ConfigInput,
  file: v.InferOutput<typeof FileSchema>,
  devices: readonly DeviceConfig[],
  nameOf: (path: string) => string,
): VmConfig {
  const { 'machine-config': machine, 'boot-source': boot, volt } = file;
  const cpus = machine.vcpu_count;
  const cmdline = boot.boot_args ?? (boot.kernel_image_path === undefined ? '' : DEFAULT_CMDLINE);
  // A kernel that does not read the DSDT finds the devices by its command line only.
  const announces = !volt.pci && (!volt.acpi || volt.virtio_cmdline || turnsAcpiOff(cmdline));
  const pci = volt.pci ? planPciBuses(devices.length, volt.pci_slots) : undefined;
  const deviceWords = announces ? virtioCmdline(placeDevices(devices, { pci })) : '';
  const maxCpus = volt.max_cpus ?? cpus;
  if (maxCpus < cpus) {
    throw new VoltError(
      'config',
      `Cannot use ${nameOf('volt.max_cpus')}: ${maxCpus} (expected at least the ${cpus} vCPUs that are present at the start)`,
    );
  }
  const { sockets, dies, cores, threads = machine.smt ? 2 : undefined } = volt;
  const topology = resolveTopology({ cpus, max: maxCpus, sockets, dies, cores, threads });
  const memoryBytes = (machine.mem_size_mib ?? memoryOfNodes(volt.numa)) * MIB;
  const config: VmConfig = {
    input,
    kernelPath: boot.kernel_image_path,
    initrdPath: boot.initrd_path ?? undefined,
    fileNames: {
      kernel: nameOf('boot-source.kernel_image_path'),
      initrd: nameOf('boot-source.initrd_path'),
      symbols: nameOf('volt.symbols'),
    },
    cmdline: addKernelWords(cmdline, [rootWord(devices), deviceWords]),
    cpus,
    maxCpus,
    cpuHotplug: maxCpus > cpus,
    topology,
    cpuTemplate: toTemplate(file),
    memoryBytes,
    hugepages: machine.huge_pages === '2M',
    numa:
      volt.numa.length === 0
        ? undefined
        : resolveNuma(volt.numa.map(toNumaRequest), { cpus, maxCpus, memoryBytes }),
    acpi: volt.acpi,
    mpTables: volt.mp_tables,
    reboot: volt.reboot,
    exitCodeStyle: volt.exit_code,
    console: volt.console,
    bootCpu: volt.boot_cpu,
    affinity: volt.cpu_affinity,
    boot: volt.boot,
    pci,
    devices,
    symbolsPath: volt.symbols,
    hangReportSeconds: volt.hang_report_s,
  };
  checkTables(config, nameOf);
  return config;
}

/** The custom template replaces a static one. */
function toTemplate(file: v.InferOutput<typeof FileSchema>): CpuTemplate | undefined {
  const { cpu_template: name } = file['machine-config'];
  return file['cpu-config'] ?? (name === 'None' ? undefined : staticTemplate(name));
}

/** Refuses features that need ACPI tables, if there are none. */
function checkTables(config: VmConfig, nameOf: (path: string) => string): void {
  if (config.acpi) return;
  const refuse = (path: string, found: string) =>
    new VoltError('config', `Cannot use ${nameOf(path)}: ${found}; turn ACPI on`);
  if (config.maxCpus > config.cpus) throw refuse('volt.max_cpus', 'hotplug of vCPUs needs ACPI tables');
  if (config.numa) throw refuse('volt.numa', 'NUMA nodes need ACPI tables');
  if (config.mpTables && !fitsMpTables(config)) {
    throw refuse(
      'machine-config.vcpu_count',
      `${config.cpus} vCPUs, but MP tables have 8-bit APIC ids and support ${MP_TABLE_MAX_CPUS}`,
    );
  }
}

/** Whether MP tables can describe the vCPUs: APIC ids have 8 bits, and the I/O APIC needs one. */
export function fitsMpTables({ topology, cpus }: Pick<VmConfig, 'topology' | 'cpus'>): boolean {
  return cpus <= MP_TABLE_MAX_CPUS && placeCpus(topology, cpus).at(-1)!.apicId < MP_TABLE_MAX_CPUS;
}

/** The argument of `parseConfig`: sections of keys, from a JSON file or from flags. */
export type ConfigInput = Readonly<Record<string, unknown>>;

/** A valid configuration. */
export interface ParsedConfig {
  readonly config: VmConfig;
  /** Unknown keys, which were ignored, as `section.key`. */
  readonly unknownKeys: readonly string[];
  /** Valid settings that will not work as intended, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Validates. `nameOf` turns a path such as `machine-config.vcpu_count` into the name that the user knows, for
 * errors: `--cpus`, or `vm.json: machine-config.vcpu_count`. Throws VoltError 'config' with the first
 * problem.
 */
export function parseConfig(input: unknown, nameOf: (path: string) => string = (path) => path): ParsedConfig {
  const result = v.safeParse(FileSchema, input);
  if (!result.success) throw configError(result.issues[0], nameOf);
  const config = toVmConfig(
    input as ConfigInput,
    result.output,
    parseDevices(resolveQueues(input as ConfigInput, result.output['machine-config'].vcpu_count), nameOf),
    nameOf,
  );
  if (config.hugepages && (config.memoryBytes / MIB) % HUGE_PAGE_MIB !== 0) {
    throw new VoltError(
      'config',
      `Cannot use ${nameOf('machine-config.mem_size_mib')}: ${config.memoryBytes / MIB} MiB with huge pages (expected an even number of MiB)`,
    );
  }
  checkVcpuNumbers(config, nameOf);
  checkDevices(config.devices, config);
  return {
    config,
    unknownKeys: unknownKeys(input as ConfigInput),
    warnings: warningsOf(config, result.output.volt.virtio_cmdline),
  };
}

function warningsOf(config: VmConfig, virtioCmdline: boolean): string[] {
  const { acpi, mpTables, cpus, maxCpus, numa, cmdline } = config;
  const machine = { acpi, mpTables, cpus, maxCpus, numa: numa !== undefined };
  const findsOneCpu = !acpi && !mpTables && cpus > 1;
  return [
    ...(findsOneCpu
      ? ['without ACPI and MP tables the guest finds one CPU only; turn one of them on, or use --cpus 1']
      : []),
    ...(virtioCmdline && config.pci
      ? ['--virtio-cmdline announces nothing: the devices are on PCI, which kernels enumerate']
      : []),
    ...(virtioCmdline && !config.pci && config.devices.length === 0
      ? ['--virtio-cmdline announces nothing: the machine has no virtio device']
      : []),
    ...contradictingWords(cmdline, machine),
  ];
}

function checkVcpuNumbers(config: VmConfig, nameOf: (path: string) => string): void {
  const expected = `(expected a vCPU from 0 to ${config.cpus - 1})`;
  if (config.bootCpu >= config.cpus) {
    throw new VoltError('config', `Cannot use ${nameOf('volt.boot_cpu')}: ${config.bootCpu} ${expected}`);
  }
  for (const index of config.affinity.keys()) {
    if (index >= config.maxCpus) {
      throw new VoltError(
        'config',
        `Cannot use ${nameOf('volt.cpu_affinity')}: vCPU ${index} does not exist (expected a vCPU from 0 to ${config.maxCpus - 1})`,
      );
    }
  }
}

function configError(issue: v.BaseIssue<unknown>, nameOf: (path: string) => string): VoltError {
  const path = v.getDotPath(issue) ?? '';
  return new VoltError('config', `Cannot use ${path === '' ? nameOf('') : nameOf(path)}: ${issue.message}`);
}

function unknownKeys(input: ConfigInput): string[] {
  return Object.entries(input).flatMap(([name, content]) => {
    const ofDevices = unknownDeviceKeys(name, content);
    if (ofDevices) return ofDevices;
    if (name === 'cpu-config') return [];
    if (!Object.hasOwn(SECTIONS, name)) return IGNORED_SILENTLY.has(name) ? [] : [name];
    const known = SECTIONS[name as keyof typeof SECTIONS];
    return Object.keys((content ?? {}) as object)
      .filter((key) => !Object.hasOwn(known, key))
      .map((key) => `${name}.${key}`)
      .filter((path) => !IGNORED_SILENTLY.has(path));
  });
}

/**
 * Merges `mergeConfig(file, flags)`: the later section wins, key by key; lists of devices are concatenated.
 */
export function mergeConfig(base: ConfigInput, over: ConfigInput): ConfigInput {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, content] of Object.entries(over)) {
    const before = merged[name];
    if (Array.isArray(before) && Array.isArray(content)) {
      merged[name] = [...before, ...content];
      continue;
    }
    // A value that is not a section is kept, so that the schema refuses it.
    if (before !== undefined && !isSection(before)) continue;
    merged[name] = isSection(before) && isSection(content) ? { ...before, ...content } : content;
  }
  return merged;
}

/** The configuration with another word for the kernel. Throws like `parseConfig`. */
export function addBootWord({ input }: VmConfig, word: string): VmConfig {
  const boot = input['boot-source'] as { readonly boot_args?: string | null } | null | undefined;
  const words = `${boot?.boot_args ?? ''} ${word}`.trim();
  return parseConfig(mergeConfig(input, { 'boot-source': { boot_args: words } })).config;
}
