/** Initrds, flags and configuration files that cannot be used, each with what volt says of it. */
import { badConfig, badConfigText, badFlags, FOLDER, type BadInput } from './bad-input.ts';
import { buildBzImage, buildElf } from './images.ts';

const MIB = 0x10_0000;
const CPUS = 'a whole number from 1 to 4096';
const MEMORY = 'a whole number from 32 to 16777216 MiB';
const HELP = 'volt --help lists all flags';

function badInitrd(
  name: string,
  content: BadInput['files'],
  message: string,
  flags: readonly string[] = [],
): BadInput {
  return {
    name,
    files: { kernel: buildElf(), ...content },
    args: ['--kernel', '{dir}/kernel', '--initrd', '{dir}/initrd', ...flags],
    message,
  };
}

export const BAD_INITRDS: readonly BadInput[] = [
  badInitrd(
    'an initrd that is missing',
    {},
    'Cannot use --initrd {dir}/initrd: there is no such file (expected the path of a file)',
  ),
  badInitrd(
    'an empty initrd',
    { initrd: '' },
    'Cannot load {dir}/initrd: the file is empty (expected a cpio archive)',
  ),
  badInitrd(
    'a folder as initrd',
    { initrd: FOLDER },
    'Cannot use --initrd {dir}/initrd: it is a directory (expected the path of a file)',
  ),
  badInitrd(
    'an ELF kernel given as initrd',
    { initrd: buildElf() },
    'Cannot load {dir}/initrd: it is a kernel or a program (expected a cpio archive)',
  ),
  badInitrd(
    'a bzImage given as initrd',
    { initrd: buildBzImage() },
    'Cannot load {dir}/initrd: it is a kernel or a program (expected a cpio archive)',
  ),
  badInitrd(
    'an initrd larger than RAM',
    { initrd: { sparseBytes: 40 * MIB } },
    'Cannot load {dir}/initrd: initrd of 41943040 bytes does not fit into RAM, which ends at 0x2000000; use --memory 42M or more',
    ['--memory', '32M'],
  ),
  badInitrd(
    'an initrd larger than low memory can be, however much RAM there is',
    { initrd: { sparseBytes: 3 * 1024 * MIB } },
    'Cannot load {dir}/initrd: initrd of 3221225472 bytes does not fit below 0x80000000; use a smaller file, because more RAM does not help',
    ['--memory', '8G'],
  ),
];

const MACHINE_FLAGS: readonly BadInput[] = [
  ...[
    ['0', '0'],
    ['4097', '4097'],
    ['-1', '-1'],
    ['1.5', '1.5'],
    ['abc', '"abc"'],
    ['', '""'],
    ['1e2', '"1e2"'],
  ].map(([given, shown]) => badFlags(['--cpus', given!], `Cannot use --cpus: ${shown} (expected ${CPUS})`)),
  badFlags(
    ['--cpus', '255', '--no-acpi'],
    'Cannot use --cpus: 255 vCPUs, but MP tables have 8-bit APIC ids and support 254; turn ACPI on',
  ),
  badFlags(
    ['--cpus', '2,max=4', '--no-acpi'],
    'Cannot use --cpus max: hotplug of vCPUs needs ACPI tables; turn ACPI on',
  ),
  badFlags(
    ['--cpus', '4,max=2'],
    'Cannot use --cpus max: 2 (expected at least the 4 vCPUs that are present at the start)',
  ),
  badFlags(
    ['--cpus', '4,sockets=x'],
    'Cannot use --cpus sockets: "x" (expected a whole number from 1 to 1024)',
  ),
  badFlags(
    ['--cpus', '4,sockets=2,cores=3'],
    'Cannot use this topology: 2 sockets × 1 dies × 3 cores × 1 threads are 6 CPUs (expected 4)',
  ),
  badFlags(
    ['--cpus', '2,sockets=3'],
    'Cannot spread 2 CPUs over 3 sockets of 1 dies with 1 threads per core: a socket would be empty; use fewer sockets or more CPUs',
  ),
  badFlags(
    ['--cpus', '2,nodes=1'],
    'Cannot use --cpus: "nodes=1" (expected sockets=…, dies=…, cores=…, threads=…, max=…)',
  ),
  badFlags(['--cpus', '2,max=4,max=5'], 'Cannot use --cpus: max is given twice (expected each setting once)'),
  badFlags(
    ['--numa', 'node=0,speed=9'],
    'Cannot use --numa: "speed=9" (expected node=…, cpus=…, memory=…, distance=…, latency=…, bandwidth=…, host=…)',
  ),
  badFlags(
    ['--numa', 'memory=lots'],
    "option '--numa <node>' argument 'memory=lots' is invalid. Expected a size with a unit, such as 512M or 2G; " +
      HELP,
  ),
  badFlags(
    ['--numa', 'node=1'],
    'Cannot use these NUMA nodes: node 1 of 1 (expected nodes 0 to 0, without a gap)',
  ),
  badFlags(
    ['--numa', 'node=0', '--numa', 'node=0'],
    'Cannot use these NUMA nodes: node 0 twice (expected each node once)',
  ),
  badFlags(
    ['--numa', 'cpus=0'],
    'Cannot use these NUMA nodes: vCPU 1 in no node (expected each vCPU in one node, or none named at all)',
  ),
  badFlags(
    ['--numa', 'cpus=0-7'],
    'Cannot use these NUMA nodes: vCPU 2 in node 0 (expected vCPUs from 0 to 1)',
  ),
  badFlags(
    ['--numa', 'memory=1G', '--memory', '512M'],
    'Cannot use these NUMA nodes: 1024 MiB in all (expected the 512 MiB of the machine)',
  ),
  badFlags(
    ['--numa', 'distance=20'],
    'Cannot use these NUMA nodes: distance 20 from node 0 to itself (expected 10)',
  ),
  badFlags(
    ['--numa', 'distance=10:20'],
    'Cannot use these NUMA nodes: 2 distances from node 0 (expected at most one for each of 1 nodes)',
  ),
  badFlags(
    ['--numa', 'cpus=0-1', '--no-acpi'],
    'Cannot use --numa: NUMA nodes need ACPI tables; turn ACPI on',
  ),
  ...['0M', '16M', '99999999T'].map((given) =>
    badFlags(
      ['--memory', given],
      `option '-m, --memory <size>' argument '${given}' is invalid. Expected 32M to 16T; ${HELP}`,
    ),
  ),
  ...['12', 'abc', '-5M', '0x10M', ''].map((given) =>
    badFlags(
      ['--memory', given],
      `option '-m, --memory <size>' argument '${given}' is invalid. Expected a size with a unit, such as 512M or 2G; ${HELP}`,
    ),
  ),
  badFlags(
    ['--memory', '1.3M'],
    `option '-m, --memory <size>' argument '1.3M' is invalid. Expected a whole number of MiB; ${HELP}`,
  ),
  badFlags(
    ['--memory', '33M', '--hugepages'],
    'Cannot use --memory: 33 MiB with huge pages (expected an even number of MiB)',
  ),
  badFlags(
    ['--share', 'tag=files'],
    'Cannot use --share tag=files: it names no folder (expected either path=DIR or socket=PATH)',
  ),
  badFlags(
    ['--share', 'path=/srv,cache=never'],
    'Cannot use --share cache: "never" (expected auto, always, none)',
  ),
  badFlags(
    ['--share', 'path=/srv,tag=a', '--share', 'path=/usr,tag=a'],
    'Cannot use --share: two shares have the tag a (expected different tags)',
  ),
  badFlags(['--pmem', 'readonly'], 'Cannot use --pmem readonly: it names no file (expected path=FILE)'),
  badFlags(
    [...Array.from({ length: 9 }, (_, i) => ['--pmem', `path=/p${i}`]).flat(), '--no-acpi'],
    'Cannot use these devices: 9 virtio devices without ACPI (expected at most 8, because MP tables have ISA interrupts only)',
  ),
  badFlags(['--console', 'bogus'], 'Cannot use --console: "bogus" (expected stdio, none or file=PATH)'),
  badFlags(['--console', 'file='], 'Cannot use --console: "file=" (expected stdio, none or file=PATH)'),
  badFlags(['--kernel', ''], 'Cannot use --kernel: "" (expected a string that is not empty)'),
  badFlags(['--initrd', ''], 'Cannot use --initrd: "" (expected a string that is not empty)'),
  badFlags(
    ['--boot', 'bogus'],
    `option '--boot <protocol>' argument 'bogus' is invalid. Allowed choices are linux, bzimage, pvh, multiboot; ${HELP}`,
  ),
  badFlags(
    ['--log-level', 'loud'],
    `option '--log-level <level>' argument 'loud' is invalid. Allowed choices are error, warn, info, debug; ${HELP}`,
  ),
];

const COMMAND_LINE: readonly BadInput[] = [
  badFlags(['--frobnicate'], `unknown option '--frobnicate'; ${HELP}`),
  badFlags(['--cpus'], `option '-c, --cpus <count>' argument missing; ${HELP}`),
  badFlags(['run', 'stray'], `too many arguments for 'run'. Expected 0 arguments but got 1; ${HELP}`),
  badFlags(['frobnicate'], "unknown command 'frobnicate'; volt --help lists all commands"),
  badFlags(
    ['inspect', 'stray'],
    'Cannot read the snapshot stray: it has no file state; name the directory that volt ctl PID snapshot wrote',
  ),
  badFlags(['inspect', 'a', 'b'], `too many arguments for 'inspect'. Expected 1 argument but got 2; ${HELP}`),
  badFlags(['doctor', '--cpus', '2'], `unknown option '--cpus'; ${HELP}`),
  badFlags(
    ['--json', '--kernel', '/dev/null'],
    'Cannot use --json with --kernel: only the embedded kernel prints a JSON report; remove one of the two flags',
  ),
  badFlags(['selftest', '--cpus', '0'], 'Cannot use --cpus: "0" (expected a whole number from 1 to 254)'),
  badFlags(
    ['selftest', '--timeout', 'soon'],
    'Cannot use --timeout: "soon" (expected a whole number from 1 to 3600)',
  ),
  {
    name: 'a command line longer than a vmlinux takes',
    files: { kernel: buildElf() },
    args: ['--kernel', '{dir}/kernel', '--cmdline', 'x'.repeat(2048)],
    message: 'Cannot pass --cmdline: it has 2048 bytes (expected at most 2047 for this kernel)',
  },
  {
    name: 'a command line longer than the bzImage says it takes',
    files: { kernel: buildBzImage({ cmdlineSize: 255 }) },
    args: ['--kernel', '{dir}/kernel', '--cmdline', 'ä'.repeat(128)],
    message: 'Cannot pass --cmdline: it has 256 bytes (expected at most 255 for this kernel)',
  },
  {
    name: 'a command line longer than the room for it',
    args: ['--cmdline', 'x'.repeat(65536)],
    message: 'Cannot pass --cmdline: it has 65536 bytes (expected at most 65535 for this kernel)',
  },
  {
    name: 'tables looked for in a file without any',
    files: { dump: new Uint8Array(4096) },
    args: ['inspect', '--from', '{dir}/dump'],
    message:
      'Cannot use --from {dir}/dump: it has no MP floating pointer (expected a memory dump from guest address 0, or a file that starts with _MP_ or PCMP)',
  },
  {
    name: 'tables looked for in an empty file',
    files: { dump: '' },
    args: ['inspect', '--from', '{dir}/dump'],
    message:
      'Cannot use --from {dir}/dump: it has no MP floating pointer (expected a memory dump from guest address 0, or a file that starts with _MP_ or PCMP)',
  },
  {
    name: 'tables looked for in a folder',
    args: ['inspect', '--from', '{dir}'],
    message:
      'Cannot read the snapshot {dir}: it has no file state; name the directory that volt ctl PID snapshot wrote',
  },
];

export const BAD_FLAGS: readonly BadInput[] = [...MACHINE_FLAGS, ...COMMAND_LINE];

const kernel = { 'boot-source': { kernel_image_path: '{dir}/kernel' } };
const SECTIONS = 'an object with sections such as "boot-source"';

/** One key of a section with a value that it cannot have. */
function badKey(section: string, key: string, value: unknown, message: string): BadInput {
  const input = { ...kernel, [section]: { ...(section === 'boot-source' && kernel[section]), [key]: value } };
  const shown = JSON.stringify(value);
  return badConfig(
    `${section}.${key} = ${shown}`,
    input,
    `{dir}/vm.json: ${section}.${key}: ${shown} (expected ${message})`,
  );
}

const CONFIG_FILES: readonly BadInput[] = [
  {
    name: 'a configuration file that is missing',
    args: ['--config', '{dir}/none.json'],
    message: 'Cannot use --config {dir}/none.json: there is no such file (expected the path of a JSON file)',
  },
  {
    name: 'a configuration path that goes through a file',
    files: { file: 'no folder' },
    args: ['--config', '{dir}/file/vm.json'],
    message:
      'Cannot use --config {dir}/file/vm.json: a part of the path is not a directory (expected the path of a JSON file)',
  },
  badConfigText(
    'a folder as configuration',
    FOLDER,
    '--config {dir}/vm.json: it is a directory (expected the path of a JSON file)',
  ),
  ...['{ "boot-source": null }', '{ "boot-source": { "kernel_image_path": null } }'].map((text) =>
    badConfigText(
      text,
      text,
      '--config {dir}/vm.json: it names no kernel (expected boot-source.kernel_image_path, or --kernel)',
    ),
  ),
  badConfigText(
    'an empty configuration file',
    '',
    '--config {dir}/vm.json: line 1, column 1: expected a value, found the end of the file',
  ),
  badConfigText(
    'a configuration file that is no JSON',
    '{ kernel: vmlinux }',
    '--config {dir}/vm.json: line 1, column 3: expected a key in quotes, found "kernel: vmlinux }"',
  ),
  badConfigText(
    'a configuration file of more than 1 MiB',
    { sparseBytes: MIB + 1 },
    '--config {dir}/vm.json: it has 1048577 bytes (expected at most 1048576)',
  ),
  ...[[], null, 7, 'text'].map((value) =>
    badConfig(
      `a configuration file that is ${JSON.stringify(value)}`,
      value,
      `--config {dir}/vm.json: its JSON is not an object (expected ${SECTIONS})`,
    ),
  ),
  ...[{}, { 'boot-source': {} }].map((value) =>
    badConfig(
      `a configuration without a kernel, ${JSON.stringify(value)}`,
      value,
      '--config {dir}/vm.json: it names no kernel (expected boot-source.kernel_image_path, or --kernel)',
    ),
  ),
];

const CONFIG_KEYS: readonly BadInput[] = [
  ...[5].map((value) =>
    badConfig(
      `boot-source = ${JSON.stringify(value)}`,
      { 'boot-source': value },
      `{dir}/vm.json: boot-source: ${JSON.stringify(value)} (expected an object)`,
    ),
  ),
  ...[5, 'text', [1, 2]].map((value) =>
    badConfig(
      `machine-config = ${JSON.stringify(value)}`,
      { ...kernel, 'machine-config': value },
      `{dir}/vm.json: machine-config: ${JSON.stringify(value)} (expected an object)`,
    ),
  ),
  badConfig(
    'machine-config = 5 with a flag for the same section',
    { ...kernel, 'machine-config': 5 },
    '{dir}/vm.json: machine-config: 5 (expected an object)',
    ['--cpus', '2'],
  ),
  badKey('boot-source', 'kernel_image_path', 5, 'a string'),
  badKey('boot-source', 'kernel_image_path', '', 'a string that is not empty'),
  badKey('boot-source', 'kernel_image_path', 'with a NUL \0', 'a string without a NUL character'),
  badKey('boot-source', 'initrd_path', 5, 'a string'),
  badKey('boot-source', 'boot_args', 5, 'a string'),
  badKey('machine-config', 'vcpu_count', 0, CPUS),
  badKey('machine-config', 'vcpu_count', 5000, CPUS),
  badKey('machine-config', 'vcpu_count', '2', CPUS),
  badKey('machine-config', 'vcpu_count', null, CPUS),
  badKey('machine-config', 'mem_size_mib', 5, MEMORY),
  badKey('machine-config', 'mem_size_mib', '512M', MEMORY),
  badKey('machine-config', 'smt', 1, 'true or false'),
  badKey('machine-config', 'huge_pages', '1G', 'None, Transparent, 2M'),
  badKey('volt', 'console', 7, 'a string'),
  badKey('volt', 'console', 'tty', 'stdio, none or file=PATH'),
  badKey('volt', 'boot', 'uefi', 'linux, bzimage, pvh, multiboot'),
  badConfig(
    'an odd number of MiB with huge pages',
    { ...kernel, 'machine-config': { mem_size_mib: 513, huge_pages: '2M' } },
    '{dir}/vm.json: machine-config.mem_size_mib: 513 MiB with huge pages (expected an even number of MiB)',
  ),
  badConfig(
    'a flag that is wrong where the file is right',
    { ...kernel, 'machine-config': { vcpu_count: 2 } },
    `--cpus: 0 (expected ${CPUS})`,
    ['--cpus', '0'],
  ),
  badConfig(
    'a machine without vcpu_count',
    { ...kernel, 'machine-config': { mem_size_mib: 64 } },
    '--config {dir}/vm.json: machine-config has no vcpu_count; add it, or give --cpus',
  ),
  badConfig(
    'a machine without mem_size_mib',
    { ...kernel, 'machine-config': { vcpu_count: 1 } },
    '--config {dir}/vm.json: machine-config has no mem_size_mib; add it, or give --memory',
  ),
];

export const BAD_CONFIGS: readonly BadInput[] = [...CONFIG_FILES, ...CONFIG_KEYS];
