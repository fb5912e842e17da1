import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { staticTemplate } from '../../../src/cpuid/static-templates.ts';
import { GIB, MIB } from '../../../src/machine/address.ts';
import { DEFAULT_CMDLINE, mergeConfig, parseConfig, type ConfigInput } from '../../../src/config/config.ts';
import { seededRandom } from '../support/random.ts';
import { strayErrorOf, voltErrorOf } from '../support/errors.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const KERNEL = { 'boot-source': { kernel_image_path: 'vmlinux' } };
const machine = (keys: Record<string, unknown>) => ({ ...KERNEL, 'machine-config': keys });
const volt = (keys: Record<string, unknown>) => ({ ...KERNEL, volt: keys });
const messageFor = (input: unknown) => voltErrorOf(() => parseConfig(input)).message;

describe('defaults', () => {
  test('are two CPUs, 512 MiB and a serial console', () => {
    expect(parseConfig(KERNEL)).toEqual({
      config: {
        input: KERNEL,
        kernelPath: 'vmlinux',
        initrdPath: undefined,
        fileNames: {
          kernel: 'boot-source.kernel_image_path',
          initrd: 'boot-source.initrd_path',
          symbols: 'volt.symbols',
        },
        cmdline: DEFAULT_CMDLINE,
        cpus: 2,
        maxCpus: 2,
        cpuHotplug: false,
        topology: { sockets: 1, diesPerSocket: 1, coresPerDie: 2, threadsPerCore: 1 },
        numa: undefined,
        acpi: true,
        mpTables: true,
        reboot: 'restart',
        exitCodeStyle: 'volt',
        cpuTemplate: undefined,
        memoryBytes: 512 * MIB,
        hugepages: false,
        console: { kind: 'stdio' },
        bootCpu: 0,
        affinity: new Map(),
        boot: undefined,
        pci: undefined,
        devices: [],
        symbolsPath: undefined,
        hangReportSeconds: 30,
      },
      unknownKeys: [],
      warnings: [],
    });
    expect(DEFAULT_CMDLINE).toContain('console=ttyS0');
  });

  test('without a kernel are the embedded one and no command line', () => {
    const { config } = parseConfig({});
    expect([config.kernelPath, config.cmdline]).toEqual([undefined, '']);
  });

  test('stand for null too, where Firecracker writes null', () => {
    const { config } = parseConfig({
      'boot-source': { kernel_image_path: 'k', initrd_path: null, boot_args: null },
    });
    expect([config.initrdPath, config.cmdline]).toEqual([undefined, DEFAULT_CMDLINE]);
  });

  test('do not replace an empty command line', () => {
    const { config } = parseConfig({ 'boot-source': { kernel_image_path: 'k', boot_args: '' } });
    expect(config.cmdline).toBe('');
  });
});

test("Firecracker's file is understood, and what is not is named", () => {
  const file = {
    'boot-source': {
      kernel_image_path: 'vmlinux.bin',
      boot_args: 'console=ttyS0 reboot=k panic=1 pci=off',
      initrd_path: null,
    },
    'cpu-config': null,
    drives: [{ drive_id: 'rootfs', path_on_host: 'rootfs.ext4', is_root_device: true, is_read_only: false }],
    'machine-config': {
      vcpu_count: 4,
      mem_size_mib: 1024,
      smt: true,
      track_dirty_pages: false,
      huge_pages: '2M',
      cpu_template: 'T2',
    },
    'network-interfaces': [],
    vsock: null,
  };
  const { config, unknownKeys } = parseConfig(file);
  expect(config).toEqual({
    input: file,
    kernelPath: 'vmlinux.bin',
    initrdPath: undefined,
    fileNames: {
      kernel: 'boot-source.kernel_image_path',
      initrd: 'boot-source.initrd_path',
      symbols: 'volt.symbols',
    },
    cmdline: 'console=ttyS0 reboot=k panic=1 pci=off root=/dev/vda rw',
    cpus: 4,
    maxCpus: 4,
    cpuHotplug: false,
    topology: { sockets: 1, diesPerSocket: 1, coresPerDie: 2, threadsPerCore: 2 },
    numa: undefined,
    acpi: true,
    mpTables: true,
    reboot: 'restart',
    exitCodeStyle: 'volt',
    cpuTemplate: staticTemplate('T2'),
    memoryBytes: GIB,
    hugepages: true,
    console: { kind: 'stdio' },
    bootCpu: 0,
    affinity: new Map(),
    pci: undefined,
    boot: undefined,
    devices: [
      {
        kind: 'block',
        id: 'rootfs',
        path: 'rootfs.ext4',
        overlay: undefined,
        format: undefined,
        readOnly: false,
        root: true,
        partuuid: undefined,
        locked: true,
        partial: false,
        cache: 'Writeback',
        direct: false,
        queues: 1,
        engine: undefined,
        limits: { bandwidth: undefined, ops: undefined },
      },
    ],
    symbolsPath: undefined,
    hangReportSeconds: 30,
  });
  expect(unknownKeys).toEqual([]);
});

describe('unknown keys', () => {
  test('are named with their section, in every section', () => {
    const { unknownKeys } = parseConfig({
      'boot-source': { kernel_image_path: 'k', kernel: 1 },
      volt: { colour: 'blue' },
      extra: 5,
    });
    expect(unknownKeys).toEqual(['boot-source.kernel', 'volt.colour', 'extra']);
  });

  test('are named even where they are called like what every object has', () => {
    const { unknownKeys } = parseConfig({ ...machine({ toString: 1 }), constructor: {} });
    expect(unknownKeys).toEqual(['machine-config.toString', 'constructor']);
  });

  test('called like that are no crash when they are null', () => {
    const input = JSON.parse('{"boot-source": {"kernel_image_path": "k"}, "toString": null}');
    expect(strayErrorOf(() => parseConfig(input))).toBeUndefined();
  });

  test('are looked for only in sections that are there', () => {
    expect(strayErrorOf(() => parseConfig({ ...KERNEL, volt: undefined }))).toBeUndefined();
  });
});

describe('every limit', () => {
  test.each([
    [{ vcpu_count: 1 }, { cpus: 1 }],
    [{ vcpu_count: 4096 }, { cpus: 4096 }],
    [{ mem_size_mib: 32 }, { memoryBytes: 32 * MIB }],
    [{ mem_size_mib: 16 * 1024 * 1024 }, { memoryBytes: 2 ** 44 }],
    [{ huge_pages: 'None', mem_size_mib: 33 }, { hugepages: false }],
    [{ huge_pages: '2M', mem_size_mib: 34 }, { hugepages: true }],
    [
      { smt: true, vcpu_count: 3 },
      { topology: { threadsPerCore: 2, coresPerDie: 2 }, cpus: 3 },
    ],
  ])('is inclusive: %j', (keys, expected) => {
    expect(parseConfig(machine(keys)).config).toMatchObject(expected as object);
  });

  const CPUS = '(expected a whole number from 1 to 4096)';
  const MEMORY = '(expected a whole number from 32 to 16777216 MiB)';

  test.each([
    [machine({ vcpu_count: 0 }), `machine-config.vcpu_count: 0 ${CPUS}`],
    [machine({ vcpu_count: 4097 }), `machine-config.vcpu_count: 4097 ${CPUS}`],
    [machine({ vcpu_count: 1.5 }), `machine-config.vcpu_count: 1.5 ${CPUS}`],
    [machine({ vcpu_count: 'two' }), `machine-config.vcpu_count: "two" ${CPUS}`],
    [machine({ vcpu_count: null }), `machine-config.vcpu_count: null ${CPUS}`],
    [machine({ mem_size_mib: 31 }), `machine-config.mem_size_mib: 31 ${MEMORY}`],
    [machine({ mem_size_mib: 16_777_217 }), `machine-config.mem_size_mib: 16777217 ${MEMORY}`],
    [machine({ smt: 'yes' }), 'machine-config.smt: "yes" (expected true or false)'],
    [machine({ huge_pages: '1G' }), 'machine-config.huge_pages: "1G" (expected None, Transparent, 2M)'],
    [
      machine({ huge_pages: '2M', mem_size_mib: 33 }),
      'machine-config.mem_size_mib: 33 MiB with huge pages (expected an even number of MiB)',
    ],
    [
      { 'boot-source': { kernel_image_path: '' } },
      'boot-source.kernel_image_path: "" (expected a string that is not empty)',
    ],
    [{ 'boot-source': { kernel_image_path: 5 } }, 'boot-source.kernel_image_path: 5 (expected a string)'],
    [
      { 'boot-source': { kernel_image_path: 'k', boot_args: 1 } },
      'boot-source.boot_args: 1 (expected a string)',
    ],
    [{ 'boot-source': 'vmlinux' }, 'boot-source: "vmlinux" (expected an object)'],
    [volt({ console: 'tty' }), 'volt.console: "tty" (expected stdio, none or file=PATH)'],
    [volt({ console: 'file=' }), 'volt.console: "file=" (expected stdio, none or file=PATH)'],
    [volt({ boot: 'uefi' }), 'volt.boot: "uefi" (expected linux, bzimage, pvh, multiboot)'],
  ])('is told when it is passed: %j', (input, message) => {
    expect(voltErrorOf(() => parseConfig(input))).toEqual({
      code: 'config',
      message: `Cannot use ${message}`,
    });
  });

  test('is told by the name that the user wrote', () => {
    const nameOf = (path: string) => `<${path}>`;
    expect(voltErrorOf(() => parseConfig(machine({ vcpu_count: 0 }), nameOf)).message).toStartWith(
      'Cannot use <machine-config.vcpu_count>: 0 (expected',
    );
    expect(voltErrorOf(() => parseConfig(7, nameOf)).message).toBe('Cannot use <>: 7 (expected an object)');
  });

  test('is told for the first problem only, in one line', () => {
    const message = messageFor(machine({ vcpu_count: 0, mem_size_mib: 0 }));
    expect(message).not.toContain('\n');
    expect(message).not.toContain('mem_size_mib');
  });
});

test.each([
  ['stdio', { kind: 'stdio' }],
  ['none', { kind: 'none' }],
  ['file=/tmp/a=b', { kind: 'file', path: '/tmp/a=b' }],
])('console %p', (text, expected) => {
  expect(parseConfig(volt({ console: text })).config.console).toEqual(expected as never);
});

test.each(['linux', 'bzimage', 'pvh', 'multiboot'] as const)('boot protocol %p', (boot) => {
  expect(parseConfig(volt({ boot })).config.boot).toBe(boot);
});

describe('merging', () => {
  test('lets flags win over the file, key by key', () => {
    const file = { 'machine-config': { vcpu_count: 4, mem_size_mib: 1024 }, drives: [] };
    const flags = { 'machine-config': { vcpu_count: 1 }, volt: { console: 'none' } };
    expect(mergeConfig(file, flags)).toEqual({
      'machine-config': { vcpu_count: 1, mem_size_mib: 1024 },
      volt: { console: 'none' },
      drives: [],
    });
  });

  test('leaves both as they were', () => {
    const file = { volt: { console: 'stdio' } };
    const flags = { volt: { console: 'none' } };
    mergeConfig(file, flags);
    expect([file.volt.console, flags.volt.console]).toEqual(['stdio', 'none']);
  });

  test('leaves what is no section for the schema to refuse', () => {
    expect(mergeConfig({ volt: 'x' }, { volt: { console: 'none' } })).toEqual({ volt: 'x' });
    expect(mergeConfig({ volt: [1] }, { volt: { a: 1 } })).toEqual({ volt: [1] });
  });
});

test('whatever JSON says, it is a config or refused in words', () => {
  const random = seededRandom(15);
  const values = [0, 1, -1, 1e9, '', 'x', '2M', null, true, [], {}, [1], { a: 1 }] as const;
  const sections = ['boot-source', 'machine-config', 'volt', 'drives', ''] as const;
  const keys = [
    'kernel_image_path',
    'vcpu_count',
    'mem_size_mib',
    'smt',
    'huge_pages',
    'console',
    'boot',
    'x',
  ] as const;
  const pick = () => random.pick(values);
  const stray = Array.from({ length: 2000 }, () => {
    const input: ConfigInput = {
      [random.pick(sections)]: pick(),
      [random.pick(sections)]: { [random.pick(keys)]: pick(), [random.pick(keys)]: pick() },
    };
    return strayErrorOf(() => parseConfig(input));
  });
  expect(stray.filter((error) => error !== undefined)).toEqual([]);
});

describe('exit_code', () => {
  test.each(['volt', 'qemu'] as const)('%p is taken', (exit_code) => {
    expect(parseConfig(volt({ exit_code })).config.exitCodeStyle).toBe(exit_code);
  });

  test.each(['QEMU', '', 1, true])('%p is refused', (exit_code) => {
    expect(messageFor(volt({ exit_code }))).toBe(
      `Cannot use volt.exit_code: ${JSON.stringify(exit_code)} (expected volt, qemu)`,
    );
  });
});

describe('hang_report_s', () => {
  test.each([
    [undefined, 30],
    [null, 30],
    ['off', 0],
    [0.1, 0.1],
    [86_400, 86_400],
  ])('%p is %p seconds', (hang_report_s, seconds) => {
    expect(
      parseConfig(volt(hang_report_s === undefined ? {} : { hang_report_s })).config.hangReportSeconds,
    ).toBe(seconds);
  });

  test.each([0, 0.09, 86_401, -1, 'on', true])('%p is refused', (hang_report_s) => {
    expect(messageFor(volt({ hang_report_s }))).toBe(
      `Cannot use volt.hang_report_s: ${JSON.stringify(hang_report_s)} (expected seconds from 0.1 to 86400, or off)`,
    );
  });
});

test('a message is one line, whatever the names of keys hold', () => {
  const message = messageFor(volt({ numa: [{ 'a\nb\x1b[31m': 1 }] }));

  expect(message).toStartWith('Cannot use volt.numa.0.a b?[31m: ');
  expect(message).not.toMatch(/[\x00-\x1f]/);
});
