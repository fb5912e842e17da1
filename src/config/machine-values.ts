/** Schemas of configuration values with a syntax of their own. */
import * as v from 'valibot';
import { MIB } from '../machine/address.ts';
import { parseCpuList } from '../machine/cpu-list.ts';
import { MAX_PCI_SLOTS } from '../virtio/host/placement.ts';
import { MINIMUM_MEMORY_BYTES } from '../machine/layout.ts';
import { MAX_NUMA_NODES, type NumaRequest } from '../smp/numa.ts';
import { found, optional, text, wholeNumber } from '../schema/values.ts';

/** RAM if the configuration has no size, in MiB. */
export const DEFAULT_MEMORY_MIB = 512;
/** Minimum RAM, in MiB. */
export const MINIMUM_MEMORY_MIB = MINIMUM_MEMORY_BYTES / MIB;
/** Maximum RAM, in MiB. */
export const MAXIMUM_MEMORY_MIB = 16 * 1024 * 1024;

/** What `runInTerminal` connects the guest's serial console to. */
export type ConsoleConfig =
  { readonly kind: 'stdio' } | { readonly kind: 'none' } | { readonly kind: 'file'; readonly path: string };

export const ConsoleSchema = v.pipe(
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
export const AffinitySchema = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected a string such as 0=2,1=3)`),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const map = new Map<number, readonly number[]>();
    for (const pair of dataset.value === '' ? [] : dataset.value.split(',')) {
      const match = /^(\d{1,4})=([\d+-]+)$/.exec(pair.trim());
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

const SHORTEST_HANG_REPORT_SECONDS = 0.1;
const LONGEST_HANG_REPORT_SECONDS = 86_400;

const seconds = (issue: v.BaseIssue<unknown>) =>
  `${found(issue.input)} (expected seconds from ${SHORTEST_HANG_REPORT_SECONDS} to ${LONGEST_HANG_REPORT_SECONDS}, or off)`;

export const HangReportSchema = v.union(
  [
    v.pipe(
      v.literal('off'),
      v.transform(() => 0),
    ),
    v.pipe(
      v.number(seconds),
      v.minValue(SHORTEST_HANG_REPORT_SECONDS, seconds),
      v.maxValue(LONGEST_HANG_REPORT_SECONDS, seconds),
    ),
  ],
  seconds,
);

const cpuList = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected a string such as "0-1,4")`),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const cpus = parseCpuList(dataset.value.replaceAll('+', ','));
    if (cpus) return cpus as readonly number[];
    addIssue({ message: `${found(dataset.value)} (expected vCPUs such as "0-1" or "0+2")` });
    return NEVER;
  }),
);

/** One number per node, in the order of nodes. */
const figures = (min: number, max: number) =>
  v.array(
    wholeNumber(min, max),
    (issue) => `${found(issue.input)} (expected a list of numbers such as [10, 20])`,
  );

const NumaNodeSchema = v.strictObject(
  {
    node: optional(wholeNumber(0, MAX_NUMA_NODES - 1)),
    cpus: optional(cpuList),
    mem_size_mib: optional(wholeNumber(0, MAXIMUM_MEMORY_MIB, ' MiB')),
    distance: optional(figures(1, 255)),
    latency_ns: optional(figures(1, 65_535)),
    bandwidth_mbps: optional(figures(1, 16_777_215)),
    host_node: optional(wholeNumber(0, 1023)),
  },
  (issue) =>
    `${found(issue.input)} (expected an object with node, cpus, mem_size_mib, distance, latency_ns, bandwidth_mbps, host_node)`,
);
export const NumaSchema = v.pipe(
  v.array(NumaNodeSchema, (issue) => `${found(issue.input)} (expected a list of nodes)`),
  v.maxLength(
    MAX_NUMA_NODES,
    (issue) => `${found(issue.input.length)} nodes (expected at most ${MAX_NUMA_NODES})`,
  ),
);

type NumaNodeInput = v.InferOutput<typeof NumaNodeSchema>;

export function toNumaRequest({
  node,
  cpus,
  mem_size_mib: mib,
  distance,
  latency_ns: latencies,
  bandwidth_mbps: bandwidths,
  host_node: hostNode,
}: NumaNodeInput): NumaRequest {
  return {
    node,
    cpus,
    memoryBytes: mib === undefined ? undefined : mib * MIB,
    distances: distance,
    latencies,
    bandwidths,
    hostNode,
  };
}

/** Memory of the machine if only its nodes have sizes, in MiB. */
export function memoryOfNodes(nodes: readonly NumaNodeInput[]): number {
  const sum = nodes.reduce((total, { mem_size_mib: mib }) => total + (mib ?? 0), 0);
  const complete = nodes.length > 0 && nodes.every(({ mem_size_mib: mib }) => mib !== undefined);
  return complete ? Math.max(sum, MINIMUM_MEMORY_MIB) : DEFAULT_MEMORY_MIB;
}

/** Slots of PCI devices: bus × 32 + device, each once. */
export const PciSlotsSchema = v.pipe(
  v.array(
    wholeNumber(1, MAX_PCI_SLOTS - 1),
    (issue) => `${found(issue.input)} (expected a list of numbers such as [1, 2])`,
  ),
  v.check(
    (slots) => new Set(slots).size === slots.length,
    () => 'a slot is there twice (expected each slot once)',
  ),
);

/** How a restored guest's clocks go on: at the time of this host, or as if no time had passed. */
export const CLOCK_CHOICES = ['realtime', 'offset'] as const;
/** See CLOCK_CHOICES. */
export type ClockChoice = (typeof CLOCK_CHOICES)[number];
