/** The flags of `volt run`; `check` and `inspect` share those that describe a machine. */
import {
  BOOT_PROTOCOLS,
  DEFAULT_CMDLINE,
  DEFAULT_CPUS,
  DEFAULT_HANG_REPORT_SECONDS,
  DEFAULT_MEMORY_MIB,
  EXIT_CODE_STYLES,
  MAXIMUM_MEMORY_MIB,
  MINIMUM_MEMORY_MIB,
} from '../api/index.ts';
import { deviceFlags } from './device-flags.ts';
import { InvalidArgument, type FlagGroup } from './flags.ts';
import { LOG_FORMATS, LOG_LEVELS } from './log.ts';
import { parseMemoryFlag, parseNumaFlag, type MemoryFlag, type NumaFlag } from './machine-flags.ts';
import { toMib } from './size.ts';

export const MACHINE_FLAGS: readonly FlagGroup[] = [
  {
    title: 'Kernel:',
    flags: [
      {
        flags: '-k, --kernel <file>',
        help: 'ELF vmlinux, bzImage, PVH or Multiboot, recognised by its bytes (default: the embedded SMP kernel)',
      },
      { flags: '-i, --initrd <file>', help: 'initial RAM disk' },
      { flags: '-a, --cmdline <text>', help: `kernel command line (default: "${DEFAULT_CMDLINE}")` },
      {
        flags: '--boot <protocol>',
        help: 'boot by this protocol instead of the one recognised',
        choices: BOOT_PROTOCOLS,
      },
    ],
  },
  {
    title: 'Machine:',
    flags: [
      {
        flags: '-c, --cpus <count>',
        help: `vCPUs and their topology: 8,sockets=2,cores=2,threads=2; max=16 allows hotplug up to 16 (default: ${DEFAULT_CPUS})`,
      },
      {
        flags: '-m, --memory <size>',
        help: `guest RAM, such as 512M or 2G (default: ${DEFAULT_MEMORY_MIB}M); 1G,max=8G lets it grow while the guest runs`,
        parse: toMemory,
      },
      { flags: '--hugepages', help: "back guest RAM with the host's reserved 2 MiB pages" },
      {
        flags: '--numa <node>',
        help: 'a NUMA node: node=0,cpus=0-1,memory=1G,distance=10:20,host=0; one flag per node',
        isList: true,
        parse: (text, before) => [...((before ?? []) as readonly NumaFlag[]), parseNumaFlag(text)],
      },
      { flags: '--boot-cpu <n>', help: 'the vCPU that is the BSP (default: 0)' },
      {
        flags: '--cpu-affinity <list>',
        help: 'host CPUs for vCPUs: 0=2,1=3 or 0=0-1; may be repeated (default: any)',
        isList: true,
        parse: (text, before) => (before === undefined ? text : `${before as string},${text}`),
      },
      { flags: '--no-acpi', help: 'boot without ACPI tables' },
      { flags: '--no-mptable', help: 'boot without MP tables' },
      {
        flags: '--reboot <when>',
        help: 'always: start the guest again after every reset (default: end it after 5 runs in a row of less than 10 minutes)',
        choices: ['always'],
      },
      { flags: '--no-reboot', help: 'end when the guest resets itself, instead of starting it again' },
      {
        flags: '--exit-code <style>',
        help: "exit code for a status n on port 0xf4: volt: 64+n; qemu: 2n+1, as with QEMU's isa-debug-exit (default: volt)",
        choices: EXIT_CODE_STYLES,
      },
      {
        flags: '--pci',
        help: 'put the virtio devices on a PCI bus, with MSI-X: more of them, hotplug, an interrupt for each queue',
      },
      {
        flags: '--virtio-cmdline',
        help: 'announce virtio devices on the command line too, for kernels without ACPI',
      },
    ],
  },
  {
    title: 'Devices:',
    flags: [
      {
        flags: '--console <where>',
        help: 'serial console: stdio, none, or file=PATH to append to a file (default: stdio)',
      },
      ...deviceFlags(),
    ],
  },
  {
    title: 'Configuration and messages:',
    flags: [
      {
        flags: '--config <file>',
        help: "a JSON file in the format of Firecracker's --config-file; flags override it",
      },
      {
        flags: '--log-level <level>',
        help: 'least severity of messages on stderr',
        choices: LOG_LEVELS,
        default: 'warn',
      },
      {
        flags: '--log-format <format>',
        help: 'text, or one JSON object per line',
        choices: LOG_FORMATS,
        default: 'text',
      },
    ],
  },
];

export const RUN_FLAGS: readonly FlagGroup[] = [
  {
    title: 'Running:',
    flags: [
      {
        flags: '--image <path>',
        help: 'take kernel, initrd, command line and root disk from an OCI image: a layout, or a tar archive of one (docs/fleet.md)',
      },
      {
        flags: '--scratch <dir>',
        help: "where an image is unpacked and the guest's writes to its disk go (default: $TMPDIR or /tmp)",
      },
      {
        flags: '--name <name>',
        help: 'name the guest, for volt ps, console, stop and all that takes a process id; opens a control socket',
      },
      {
        flags: '--timeline [file]',
        help: 'print when each phase of the boot happened, on stderr, at the end; with a file: a trace for Perfetto',
      },
      { flags: '--json', help: 'without --kernel: the report of the embedded kernel as JSON' },
      {
        flags: '--control [path]',
        help: 'open a control socket for volt ctl and volt ps, at PATH or where volt ps looks',
      },
      {
        flags: '--symbols <file>',
        help: "System.map or ELF file with the guest's symbols (default: the kernel file's own)",
      },
      {
        flags: '--hang-report <seconds>',
        help: `report a guest in which no vCPU makes progress for so long; off: never (default: ${DEFAULT_HANG_REPORT_SECONDS})`,
      },
      {
        flags: '--metrics <addr|path>',
        help: 'serve OpenMetrics at ADDRESS:PORT, or on a Unix socket at a path with a slash',
      },
      {
        flags: '--metrics-labels <list>',
        help: 'labels that every metric gets, such as node=a,guest=web',
        parse: toMetricsLabels,
      },
      {
        flags: '--gdb <addr|path>',
        help: 'let gdb attach at 127.0.0.1:PORT (port 0: a free one) or a Unix socket; with ,wait the guest starts when gdb lets it',
      },
      {
        flags: '--shutdown-timeout <s>',
        help: 'after SIGTERM: time for the guest to power off after the power button is pressed; 0: end it at once',
        parse: toSeconds,
        default: 60,
      },
      {
        flags: '--pool <dir>',
        help: 'be run by a process of the pool that volt pool keeps in DIR (default: where volt ps looks)',
      },
      { flags: '--no-pool', help: 'be run by a process of its own, although a pool runs' },
    ],
  },
  {
    title: 'Confinement:',
    flags: [
      {
        flags: '--jail <dir>',
        help: 'run with DIR as the root of the file system; all paths are relative to it; needs root',
      },
      { flags: '--uid <n>', help: 'in the jail: the user to become', parse: toId },
      { flags: '--gid <n>', help: 'in the jail: the group to become', parse: toId },
      { flags: '--netns <path>', help: 'in the jail: the network namespace to join' },
      { flags: '--cgroup <name>', help: 'in the jail: the cgroup to join, below /sys/fs/cgroup' },
      { flags: '--no-sandbox', help: 'keep all privileges and system calls while the guest runs' },
    ],
  },
];

/** A size in MiB, or with `max` a size that can grow. */
function toMemory(text: string): number | MemoryFlag {
  const [size = '', ...settings] = text.split(',');
  const mib = toMemoryMib(size);
  return settings.length === 0 ? mib : parseMemoryFlag(mib, settings);
}

/** Checks the range here as well as in the schema, so that the error has the units of the flag. */
function toMemoryMib(text: string): number {
  const mib = toMib(text);
  if (mib >= MINIMUM_MEMORY_MIB && mib <= MAXIMUM_MEMORY_MIB) return mib;
  throw new InvalidArgument(`Expected ${MINIMUM_MEMORY_MIB}M to ${MAXIMUM_MEMORY_MIB / 2 ** 20}T.`);
}

function toSeconds(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new InvalidArgument('Expected whole seconds such as 60.');
}

function toId(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidArgument('Expected a number such as 65534.');
}

/** Label names of OpenMetrics; those with two underscores in front are the monitor's own. */
const LABEL = /^((?!__)[a-z_][a-z0-9_]{0,63})=([^\x00-\x1f]{0,256})$/i;
/** Labels that Volt's own metrics have; one more of the same name would be ambiguous. */
const OWN_LABELS = /^(?:version|kernel|state|vcpu|reason|mode|phase|device|kind|queue|direction|by)$/;

function toMetricsLabels(text: string): Record<string, string> {
  const pairs = text.split(',').map((item) => LABEL.exec(item));
  const names = new Set(pairs.map((pair) => pair?.[1]));
  const isFree = pairs.every((pair) => pair && !OWN_LABELS.test(pair[1]!)) && names.size === pairs.length;
  if (isFree) return Object.fromEntries(pairs.map((pair) => [pair![1]!, pair![2]!]));
  throw new InvalidArgument(
    `Expected names and values such as node=a,guest=web, each once and none of Volt's own labels.`,
  );
}
