/** Configuration files, and the machines that those which are accepted describe. */
import { parseConfig, type VmConfig } from '../../../src/config/config.ts';
import { inspectPlan } from '../../../src/plan/inspection.ts';
import { MIB } from '../../../src/machine/address.ts';
import { planImage, planMachine, pmemOf } from '../../../src/plan/plan.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import { buildElf, LINUX_NOTE } from '../../../test/unit/boot/images.ts';
import { kindOf, type FuzzTarget } from '../target.ts';
import { keysOf, parsedJson, treeVariation, type Json } from '../vary-tree.ts';

const FILES: readonly Json[] = [
  { 'boot-source': { kernel_image_path: '/vmlinux', boot_args: 'console=ttyS0' } },
  {
    'machine-config': { vcpu_count: 4, mem_size_mib: 512, smt: true, huge_pages: '2M' },
    volt: { max_cpus: 8 },
  },
  {
    volt: { sockets: 2, dies: 1, cores: 2, threads: 2, max_cpus: 8, boot_cpu: 1, cpu_affinity: '0=0,1=1+2' },
  },
  {
    volt: {
      acpi: false,
      mp_tables: true,
      reboot: 'exit',
      exit_code: 'qemu',
      console: 'file=/x',
      hang_report_s: 'off',
      boot: 'pvh',
    },
  },
  {
    'machine-config': { vcpu_count: 4 },
    volt: {
      numa: [
        {
          node: 0,
          cpus: '0-1',
          mem_size_mib: 256,
          distance: [10, 20],
          latency_ns: [10, 20],
          bandwidth_mbps: [9, 8],
        },
        { node: 1, cpus: '2+3', mem_size_mib: 256, distance: [20, 10], host_node: 0 },
      ],
    },
  },
  {
    drives: [
      {
        drive_id: 'root',
        path_on_host: '/d',
        is_root_device: true,
        is_read_only: true,
        cache_type: 'Unsafe',
      },
      { drive_id: 'b', path_on_host: '/e', direct: true, queues: 2, io_engine: 'Async', overlay: '/o' },
    ],
    pmem: [{ id: 'p', path_on_host: '/p', root_device: false, read_only: true, rate_limiter: null }],
    shares: [
      { id: 's', tag: 'files', path_on_host: '/s', is_read_only: true, cache: 'none' },
      { id: 't', tag: 'more', socket: '/t' },
    ],
    entropy: { rate_limiter: { bandwidth: { size: 1000, one_time_burst: 5, refill_time: 100 } } },
  },
];

const KEYS = [...new Set(FILES.flatMap(keysOf)), '__proto__', 'constructor', 'network-interfaces', 'logger'];
const VALUES: readonly Json[] = [
  ...[
    null,
    true,
    false,
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    63,
    64,
    65,
    255,
    256,
    300,
    4095,
    4096,
    4097,
    65_536,
    1e9,
    1e308,
    0.5,
  ],
  ...['', '0', '0-1', '0=0', 'x'.repeat(300), 'stdio', 'none', '2M', 'None', '/dev/null', '\u0000', '\ud800'],
  ...[[], {}, [[]], [{}], { node: 0 }, [10, 20, 30]],
];

const varyTree = treeVariation(FILES, KEYS, VALUES);

/** The configuration, or the words with which it is refused. */
function configOf(input: Uint8Array): VmConfig | string {
  const tree = parsedJson(input);
  if (tree === undefined) return 'no JSON';
  try {
    return parseConfig(tree).config;
  } catch (error) {
    if (!(error instanceof VoltError) || error.code === 'internal') throw error;
    if (error.message.includes('\n'))
      throw new Error(`a message of several lines: ${error.message}`, { cause: error });
    return kindOf(error.message);
  }
}

export const configTarget: FuzzTarget = {
  name: 'config',
  what: 'configuration files through the gate',
  seeds: () => FILES.map((file) => Buffer.from(JSON.stringify(file))),
  words: [...KEYS.map((key) => `"${key}":`), '[', '{', '}', ']', 'null', '1e999', '"\\ud800"', '-0'],
  vary: varyTree,
  run: (input) => {
    const config = configOf(input);
    if (typeof config === 'string') return config;
    const { devices, numa, topology, acpi, affinity } = config;
    return `machine ${devices.length} ${numa?.nodes.length ?? 0} ${topology.threadsPerCore} ${acpi} ${affinity.size}`;
  },
};

const KERNEL = bytesAsSource('kernel', buildElf({ notes: LINUX_NOTE }));
/** Larger machines have no other code, and take long. */
const MOST_CPUS = 40;

export const machineTarget: FuzzTarget = {
  name: 'machine',
  what: 'what a configuration describes, as tables that have to agree with one another',
  seeds: configTarget.seeds,
  vary: varyTree,
  run: (input) => {
    const config = configOf(input);
    if (typeof config === 'string') return config;
    if (config.maxCpus > MOST_CPUS) return 'large';
    let plan;
    try {
      plan = planMachine(
        config,
        planImage({ ...config, initrdPath: undefined }, KERNEL, undefined),
        {
          tscDeadline: true,
          vmGenerationId: new Uint8Array(16),
        },
        { pmemBytes: pmemOf(config).map((_, i) => (i + 1) * 3 * MIB) },
      );
    } catch (error) {
      if (error instanceof VoltError && error.code !== 'internal') return kindOf(error.message);
      throw error;
    }
    for (const vendor of ['AuthenticAMD', 'GenuineIntel'] as const) {
      const { problems } = inspectPlan(plan, config.cmdline, vendor);
      if (problems.length > 0) throw new Error(`the tables disagree: ${problems.join('; ')}`);
    }
    const { topology, numa, cpus } = config;
    const levels = [
      topology.sockets,
      topology.diesPerSocket,
      topology.coresPerDie,
      topology.threadsPerCore,
    ].map((n) => Math.min(n, 3));
    return `${levels} ${numa?.nodes.length ?? 0} ${config.acpi} ${config.mpTables} ${cpus === config.maxCpus}`;
  },
};
