/** Converts the flags that describe a machine, which `run`, `check` and `inspect` share, to a VmConfig. */
import { readFileSync } from 'node:fs';
import {
  mergeConfig,
  namesRoot,
  parseConfig,
  parseJsonText,
  statPath,
  VoltError,
  type ConfigInput,
  type VmConfig,
} from '../api/index.ts';
import { deviceFlagOf, deviceSections } from './device-flags.ts';
import type { Log, LogFormat, LogLevel } from './log.ts';
import { parseCpusFlag, toNumber, type MemoryFlag, type NumaFlag } from './machine-flags.ts';

const MAX_CONFIG_BYTES = 1024 * 1024;

/** The flag for each key of the configuration; errors name the flag if it was given. */
const FLAG_OF_PATH: Readonly<Record<string, { flag: string; key: keyof MachineFlags }>> = {
  'boot-source.kernel_image_path': { flag: '--kernel', key: 'kernel' },
  'boot-source.initrd_path': { flag: '--initrd', key: 'initrd' },
  'boot-source.boot_args': { flag: '--cmdline', key: 'cmdline' },
  'machine-config.vcpu_count': { flag: '--cpus', key: 'cpus' },
  'machine-config.mem_size_mib': { flag: '--memory', key: 'memory' },
  'machine-config.huge_pages': { flag: '--hugepages', key: 'hugepages' },
  'volt.console': { flag: '--console', key: 'console' },
  'volt.boot_cpu': { flag: '--boot-cpu', key: 'bootCpu' },
  'volt.cpu_affinity': { flag: '--cpu-affinity', key: 'cpuAffinity' },
  'volt.boot': { flag: '--boot', key: 'boot' },
  'volt.max_cpus': { flag: '--cpus max', key: 'cpus' },
  'volt.sockets': { flag: '--cpus sockets', key: 'cpus' },
  'volt.dies': { flag: '--cpus dies', key: 'cpus' },
  'volt.cores': { flag: '--cpus cores', key: 'cpus' },
  'volt.threads': { flag: '--cpus threads', key: 'cpus' },
  'volt.numa': { flag: '--numa', key: 'numa' },
  'volt.exit_code': { flag: '--exit-code', key: 'exitCode' },
  'volt.symbols': { flag: '--symbols', key: 'symbols' },
  'volt.hang_report_s': { flag: '--hang-report', key: 'hangReport' },
};

export interface MachineFlags {
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  readonly cmdline?: string | undefined;
  readonly cpus?: string | undefined;
  readonly memory?: number | MemoryFlag | undefined;
  readonly hugepages?: true | undefined;
  readonly console?: string | undefined;
  readonly boot?: string | undefined;
  readonly bootCpu?: string | undefined;
  readonly cpuAffinity?: string | undefined;
  readonly numa?: readonly NumaFlag[] | undefined;
  /** false by --no-acpi, and so on. */
  readonly acpi: boolean;
  readonly mptable: boolean;
  readonly reboot?: 'always' | boolean | undefined;
  /** From the spec of disks. */
  readonly disk?: readonly Readonly<Record<string, unknown>>[] | undefined;
  readonly exitCode?: string | undefined;
  readonly virtioCmdline?: true | undefined;
  readonly pci?: true | undefined;
  readonly symbols?: string | undefined;
  readonly hangReport?: string | undefined;
  readonly config?: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** Converts flags and file to a VmConfig. Throws VoltError; warns about unknown keys. */
export function toConfig(flags: MachineFlags, log: Log): VmConfig {
  const fromFile = flags.config === undefined ? {} : readConfigFile(flags.config);
  const nameOf = (path: string) => {
    const section = /^[\w-]+/.exec(path)?.[0] ?? '';
    const deviceFlag = deviceFlagOf(section, flags as unknown as Readonly<Record<string, unknown>>);
    if (deviceFlag !== undefined) return [deviceFlag, ...(/(?<=\.)[a-z]\w*$/.exec(path) ?? [])].join(' ');
    const known = FLAG_OF_PATH[path];
    if (known && flags[known.key] !== undefined) return known.flag;
    if (flags.config !== undefined)
      return path === '' ? `--config ${flags.config}` : `${flags.config}: ${path}`;
    return known ? known.flag : path;
  };
  if (flags.config !== undefined && !hasKernel(fromFile) && flags.kernel === undefined) {
    throw new VoltError(
      'config',
      `Cannot use --config ${flags.config}: it names no kernel (expected boot-source.kernel_image_path, or --kernel)`,
    );
  }
  const { config, unknownKeys, warnings } = parseConfig(
    withRoot(mergeConfig(fromFile, fromFlags(flags)), flags),
    nameOf,
  );
  for (const key of unknownKeys)
    log.warn(`${flags.config}: ${key} is not supported by this version and is ignored`);
  for (const warning of warnings) log.warn(warning);
  requireMachineKeys(fromFile, flags);
  return config;
}

/**
 * Makes the first `--disk` the root device, unless a device or the kernel's command line names another. Disks
 * of a file are not changed: as in Firecracker, `is_root_device` says which one it is.
 */
function withRoot(input: ConfigInput, { disk }: MachineFlags): ConfigInput {
  const boot = input['boot-source'] as { boot_args?: unknown; kernel_image_path?: unknown } | undefined;
  const drives = input['drives'];
  if (disk === undefined || boot?.kernel_image_path === undefined || drives !== disk) return input;
  const named = typeof boot.boot_args === 'string' && namesRoot(boot.boot_args);
  const others = [...disk, ...((input['pmem'] ?? []) as Record<string, unknown>[])];
  if (named || others.some((each) => each['is_root_device'] ?? each['root_device'])) return input;
  return { ...input, drives: [{ ...disk[0], is_root_device: true }, ...disk.slice(1)] };
}

/**
 * Refuses a `machine-config` that lacks a key which Firecracker requires there, unless a flag gives its value: a
 * file without it is taken for another machine than its author meant. A file without the section gets defaults,
 * as in Firecracker.
 */
function requireMachineKeys(file: ConfigInput, flags: MachineFlags): void {
  const machine = file['machine-config'];
  if (typeof machine !== 'object' || machine === null) return;
  const require = (key: string, flag: string, given: unknown) => {
    if (key in machine || given !== undefined) return;
    throw new VoltError(
      'config',
      `Cannot use --config ${flags.config}: machine-config has no ${key}; add it, or give ${flag}`,
    );
  };
  require('vcpu_count', '--cpus', flags.cpus);
  require('mem_size_mib', '--memory', flags.memory ?? flags.numa);
}

function hasKernel(file: ConfigInput): boolean {
  const boot = file['boot-source'] as { kernel_image_path?: unknown } | null | undefined;
  // The schema refuses a value that is not a section.
  return typeof boot === 'object' || boot === undefined ? (boot?.kernel_image_path ?? null) !== null : true;
}

function fromFlags(flags: MachineFlags): ConfigInput {
  const cpus = flags.cpus === undefined ? { count: undefined, topology: {} } : parseCpusFlag(flags.cpus);
  const sections = dropEmpty({
    'boot-source': { kernel_image_path: flags.kernel, initrd_path: flags.initrd, boot_args: flags.cmdline },
    'machine-config': {
      vcpu_count: cpus.count,
      mem_size_mib: typeof flags.memory === 'object' ? flags.memory.mib : flags.memory,
      huge_pages: flags.hugepages ? '2M' : undefined,
    },
    volt: {
      ...cpus.topology,
      numa: flags.numa,
      acpi: flags.acpi ? undefined : false,
      mp_tables: flags.mptable ? undefined : false,
      reboot: flags.reboot === false ? 'exit' : flags.reboot === true ? undefined : flags.reboot,
      console: flags.console,
      boot: flags.boot,
      boot_cpu: flags.bootCpu === undefined ? undefined : toNumber(flags.bootCpu),
      cpu_affinity: flags.cpuAffinity,
      exit_code: flags.exitCode,
      symbols: flags.symbols,
      virtio_cmdline: flags.virtioCmdline,
      pci: flags.pci,
      hang_report_s: flags.hangReport === undefined ? undefined : toNumber(flags.hangReport),
    },
  });
  if (typeof flags.memory === 'object')
    (sections as Record<string, unknown>)['memory-hotplug'] = flags.memory.hotplug;
  const devices = deviceSections(flags as unknown as Readonly<Record<string, unknown>>);
  return { ...sections, ...devices };
}

function dropEmpty(sections: Record<string, Record<string, unknown>>): ConfigInput {
  const kept: Record<string, unknown> = {};
  for (const [name, keys] of Object.entries(sections)) {
    const given = Object.entries(keys).filter(([, value]) => value !== undefined);
    if (given.length > 0) kept[name] = Object.fromEntries(given);
  }
  return kept;
}

function readConfigFile(path: string): ConfigInput {
  const fail = (found: string, expected: string, cause?: unknown) =>
    new VoltError('config', `Cannot use --config ${path}: ${found} (expected ${expected})`, { cause });
  const state = statPath(path);
  if (state.kind === 'unusable') throw fail(state.found, 'the path of a JSON file');
  if (state.bytes > MAX_CONFIG_BYTES)
    throw fail(`it has ${state.bytes} bytes`, `at most ${MAX_CONFIG_BYTES}`);
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw fail((error as Error).message, 'a file that you may read', error);
  }
  let parsed: unknown;
  try {
    parsed = parseJsonText(bytes);
  } catch (error) {
    if (!(error instanceof VoltError)) throw error;
    throw new VoltError('config', `Cannot use --config ${path}: ${error.message}`, { cause: error });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw fail('its JSON is not an object', 'an object with sections such as "boot-source"');
  }
  return parsed as ConfigInput;
}
