/**
 * The one gate for configuration. Flags and files both come here in the shape of Firecracker's --config-file
 * (sections in kebab-case, keys in snake_case, with one section `volt` for what Firecracker does not have) and
 * leave as a VmConfig. Nothing behind this gate sees unvalidated input.
 */
import * as v from 'valibot';
import { MIB } from '../machine/address.ts';
import { parseCpuList } from '../machine/cpu-list.ts';
import { MINIMUM_MEMORY_BYTES } from '../machine/layout.ts';
import { MP_TABLE_MAX_CPUS } from '../smp/mp-table.ts';
import { VoltError } from '../volt-error.ts';
import { found, flag, isSection, oneOf, section, text, wholeNumber } from './config-values.ts';
import {
  checkDevices,
  DEVICE_SECTIONS,
  DRIVE_KEYS,
  planDevices,
  type DeviceConfig,
} from './device-config.ts';

export const DEFAULT_CPUS = 2;
export const DEFAULT_MEMORY_MIB = 512;
/** `reboot=k` resets through the i8042, which ends Volt; `panic=-1` does so after a panic, without waiting. */
export const DEFAULT_CMDLINE = 'console=ttyS0 reboot=k panic=-1';

const MINIMUM_MEMORY_MIB = MINIMUM_MEMORY_BYTES / MIB;
const MAXIMUM_MEMORY_MIB = 16 * 1024 * 1024;
const HUGE_PAGE_MIB = 2;

export const BOOT_PROTOCOLS = ['linux', 'bzimage', 'pvh', 'multiboot'] as const;

export type ConsoleConfig =
  { readonly kind: 'stdio' } | { readonly kind: 'none' } | { readonly kind: 'file'; readonly path: string };

export interface VmConfig {
  /** undefined: the embedded SMP kernel. */
  readonly kernelPath: string | undefined;
  readonly initrdPath: string | undefined;
  readonly cmdline: string;
  readonly cpus: number;
  readonly threadsPerCore: 1 | 2;
  readonly memoryBytes: number;
  readonly hugepages: boolean;
  readonly console: ConsoleConfig;
  /** Index of the vCPU that is the BSP. */
  readonly bootCpu: number;
  /** Host CPUs that each vCPU's thread may run on, by vCPU index; others run anywhere. */
  readonly affinity: ReadonlyMap<number, readonly number[]>;
  readonly boot: (typeof BOOT_PROTOCOLS)[number] | undefined;
  /** Virtio devices, in the order of their places on the bus. */
  readonly devices: readonly DeviceConfig[];
}

const ConsoleSchema = v.pipe(
  text,
  v.check(
    (value) => value === 'stdio' || value === 'none' || /^file=./.test(value),
    (issue) => `${found(issue.input)} (expected stdio, none or file=PATH)`,
  ),
  v.transform((value): ConsoleConfig =>
    value.startsWith('file=') ? { kind: 'file', path: value.slice(5) } : { kind: value as 'stdio' | 'none' },
  ),
);

/** `0=2,1=3`: vCPU 0 on host CPU 2, vCPU 1 on 3; several host CPUs for one as `0=0-1` or `0=1+3`. */
const AffinitySchema = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected a text such as 0=2,1=3)`),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const map = new Map<number, readonly number[]>();
    for (const pair of dataset.value === '' ? [] : dataset.value.split(',')) {
      const match = /^(\d{1,3})=([\d+-]+)$/.exec(pair.trim());
      const cpus = match && parseCpuList(match[2]!.replaceAll('+', ','));
      if (!match || !cpus || map.has(Number(match[1]))) {
        addIssue({
          message: `${found(dataset.value)} (expected VCPU=HOSTCPU pairs such as 0=2,1=3, each vCPU once)`,
        });
        return NEVER;
      }
      map.set(Number(match[1]), cpus);
    }
    return map as ReadonlyMap<number, readonly number[]>;
  }),
);

/** Every section and key that Volt acts on. */
const SECTIONS = {
  'boot-source': {
    kernel_image_path: v.optional(text),
    initrd_path: v.optional(v.nullable(text)),
    boot_args: v.optional(v.nullable(v.string((issue) => `${found(issue.input)} (expected a text)`))),
  },
  'machine-config': {
    vcpu_count: v.optional(
      wholeNumber(
        1,
        MP_TABLE_MAX_CPUS,
        ': MP tables have 8-bit APIC ids, and one of them is for the I/O APIC',
      ),
      DEFAULT_CPUS,
    ),
    mem_size_mib: v.optional(wholeNumber(MINIMUM_MEMORY_MIB, MAXIMUM_MEMORY_MIB, ' MiB'), DEFAULT_MEMORY_MIB),
    smt: v.optional(flag, false),
    huge_pages: v.optional(oneOf(['None', '2M']), 'None'),
  },
  volt: {
    console: v.optional(ConsoleSchema, 'stdio'),
    boot_cpu: v.optional(wholeNumber(0, MP_TABLE_MAX_CPUS - 1), 0),
    cpu_affinity: v.optional(AffinitySchema, ''),
    boot: v.optional(oneOf(BOOT_PROTOCOLS)),
  },
} as const;

/** Keys that Firecracker's own files may hold and that change nothing in Volt, or cannot be honoured yet. */
const IGNORED_SILENTLY = new Set(['machine-config.track_dirty_pages']);

const ConfigSchema = v.pipe(
  v.object(
    {
      'boot-source': v.optional(section(SECTIONS['boot-source']), {}),
      'machine-config': v.optional(section(SECTIONS['machine-config']), {}),
      volt: v.optional(section(SECTIONS.volt), {}),
      ...DEVICE_SECTIONS,
    },
    (issue) => `${found(issue.input)} (expected an object)`,
  ),
  v.transform((file): VmConfig => {
    const machine = file['machine-config'];
    const boot = file['boot-source'];
    const { devices, rootWords } = planDevices(file);
    const cmdline = boot.boot_args ?? (boot.kernel_image_path === undefined ? '' : DEFAULT_CMDLINE);
    return {
      kernelPath: boot.kernel_image_path,
      initrdPath: boot.initrd_path ?? undefined,
      cmdline: rootWords === '' ? cmdline : `${cmdline} ${rootWords}`.trim(),
      cpus: machine.vcpu_count,
      threadsPerCore: machine.smt ? 2 : 1,
      memoryBytes: machine.mem_size_mib * MIB,
      hugepages: machine.huge_pages === '2M',
      console: file.volt.console,
      bootCpu: file.volt.boot_cpu,
      affinity: file.volt.cpu_affinity,
      boot: file.volt.boot,
      devices,
    };
  }),
);

/** What `parseConfig` takes: sections of keys, from a JSON file or from flags. */
export type ConfigInput = Readonly<Record<string, unknown>>;

export interface ParsedConfig {
  readonly config: VmConfig;
  /** Keys that were not understood, as `section.key`. */
  readonly unknownKeys: readonly string[];
}

/**
 * Validates. `nameOf` turns a path such as `machine-config.vcpu_count` into what the user wrote, for the error:
 * `--cpus`, say, or `vm.json: machine-config.vcpu_count`. Throws VoltError 'config' with the first problem.
 */
export function parseConfig(input: unknown, nameOf: (path: string) => string = (path) => path): ParsedConfig {
  const result = v.safeParse(ConfigSchema, input);
  if (!result.success) throw configError(result.issues[0], nameOf);
  const config = result.output;
  if (config.hugepages && (config.memoryBytes / MIB) % HUGE_PAGE_MIB !== 0) {
    throw new VoltError(
      'config',
      `Cannot use ${nameOf('machine-config.mem_size_mib')}: ${config.memoryBytes / MIB} MiB with huge pages (expected an even number of MiB)`,
    );
  }
  checkVcpuNumbers(config, nameOf);
  checkDevices(config.devices, nameOf);
  return { config, unknownKeys: unknownKeys(input as ConfigInput) };
}

function checkVcpuNumbers(config: VmConfig, nameOf: (path: string) => string): void {
  const expected = `(expected a vCPU from 0 to ${config.cpus - 1})`;
  if (config.bootCpu >= config.cpus) {
    throw new VoltError('config', `Cannot use ${nameOf('volt.boot_cpu')}: ${config.bootCpu} ${expected}`);
  }
  for (const index of config.affinity.keys()) {
    if (index >= config.cpus) {
      throw new VoltError(
        'config',
        `Cannot use ${nameOf('volt.cpu_affinity')}: there is no vCPU ${index} ${expected}`,
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
    if (name === 'drives') return unknownDriveKeys(content);
    if (Object.hasOwn(DEVICE_SECTIONS, name)) return [];
    if (!Object.hasOwn(SECTIONS, name)) return [name];
    const known = SECTIONS[name as keyof typeof SECTIONS];
    return Object.keys((content ?? {}) as object)
      .filter((key) => !Object.hasOwn(known, key))
      .map((key) => `${name}.${key}`)
      .filter((path) => !IGNORED_SILENTLY.has(path));
  });
}

function unknownDriveKeys(drives: unknown): string[] {
  return (drives as readonly object[]).flatMap((drive, i) =>
    Object.keys(drive)
      .filter((key) => !DRIVE_KEYS.has(key))
      .map((key) => `drives[${i}].${key}`),
  );
}

/** Later sections win, key by key, and lists of devices are joined: `mergeConfig(file, flags)`. */
export function mergeConfig(base: ConfigInput, over: ConfigInput): ConfigInput {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, content] of Object.entries(over)) {
    const before = merged[name];
    if (Array.isArray(before) && Array.isArray(content)) {
      merged[name] = [...before, ...content];
      continue;
    }
    // What is no section stays, for the schema to refuse it.
    if (before !== undefined && !isSection(before)) continue;
    merged[name] = isSection(before) && isSection(content) ? { ...before, ...content } : content;
  }
  return merged;
}
