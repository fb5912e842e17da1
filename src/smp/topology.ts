/**
 * CPU topology: the socket, die, core and thread of each vCPU, and the APIC id that encodes them. Each level
 * is a bit field of the APIC id just wide enough for its count, so a count that is not a power of two leaves
 * gaps between ids. (Intel SDM 3A §9.9.1, "Hierarchical Mapping of Shared Resources"; CPUID leaf 0xB)
 *
 * Counts are capacities: a machine may have fewer CPUs than its topology has room for, and the last core, die
 * or socket may be partly filled. CPUID and the PPTT describe the capacity; the MADT and the MP tables list
 * the CPUs.
 */
import { bitsFor } from '../binary/bits.ts';
import { VoltError } from '../volt-error.ts';

export interface Topology {
  readonly sockets: number;
  readonly diesPerSocket: number;
  readonly coresPerDie: number;
  readonly threadsPerCore: number;
}

export interface CpuPlacement {
  /** Volt's number of the vCPU, from 0. APIC ids ascend with it. */
  readonly index: number;
  readonly apicId: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
  readonly thread: number;
}

/** Number of bits to shift an APIC id right by for the id of each level. (CPUID leaf 0xB, EAX bits 4–0) */
export interface TopologyShifts {
  readonly core: number;
  readonly die: number;
  readonly socket: number;
}

export function cpuCount(topology: Topology): number {
  return topology.sockets * coresPerSocket(topology) * topology.threadsPerCore;
}

export function coresPerSocket(topology: Topology): number {
  return topology.diesPerSocket * topology.coresPerDie;
}

/** Counts given by the user; missing ones are derived from the others. */
export interface TopologyRequest {
  /** CPUs present at start. */
  readonly cpus: number;
  /** CPUs present at start or hotpluggable; default `cpus`. */
  readonly max?: number | undefined;
  readonly sockets?: number | undefined;
  readonly dies?: number | undefined;
  readonly cores?: number | undefined;
  readonly threads?: number | undefined;
}

/**
 * Completes a topology with room for all CPUs.
 *
 * With `sockets` and `cores`, the product of all counts must be `cpus` or `max`. Without `cores`, the CPUs
 * present at start are spread over the sockets, the last of which may be partly filled. Hotpluggable CPUs get
 * further sockets of the same shape; without `sockets` and `cores` there is one socket for all. Throws
 * VoltError 'config'.
 */
export function resolveTopology(request: TopologyRequest): Topology {
  const { cpus, sockets, cores, dies = 1, threads = 1, max = cpus } = request;
  const perCore = dies * threads;
  if (sockets !== undefined && cores !== undefined) {
    const product = sockets * cores * perCore;
    if (product !== cpus && product !== max) {
      const expected = max === cpus ? `${cpus}` : `${cpus} or ${max}`;
      throw new VoltError(
        'config',
        `Cannot use this topology: ${sockets} sockets × ${dies} dies × ${cores} cores × ${threads} threads are ${product} CPUs (expected ${expected})`,
      );
    }
  }
  const spread = Math.ceil((sockets === undefined ? max : cpus) / ((sockets ?? 1) * perCore));
  const coresPerDie = cores ?? spread;
  const perSocket = coresPerDie * perCore;
  if (sockets !== undefined && cores === undefined && cpus <= (sockets - 1) * perSocket) {
    throw new VoltError(
      'config',
      `Cannot spread ${cpus} CPUs over ${sockets} sockets of ${dies} dies with ${threads} threads per core: a socket would be empty; use fewer sockets or more CPUs`,
    );
  }
  return { sockets: Math.ceil(max / perSocket), diesPerSocket: dies, coresPerDie, threadsPerCore: threads };
}

export function topologyShifts(topology: Topology): TopologyShifts {
  const core = bitsFor(topology.threadsPerCore);
  const die = core + bitsFor(topology.coresPerDie);
  return { core, die, socket: die + bitsFor(topology.diesPerSocket) };
}

/** Placements of the first `count` vCPUs. Threads of a core have consecutive indices. */
export function placeCpus(topology: Topology, count: number = cpuCount(topology)): CpuPlacement[] {
  if (!Number.isInteger(count) || count < 1 || count > cpuCount(topology)) {
    throw new RangeError(`Cannot place ${count} CPUs (expected 1 to ${cpuCount(topology)} in this topology)`);
  }
  const shifts = topologyShifts(topology);
  return Array.from({ length: count }, (_, index) => {
    const thread = index % topology.threadsPerCore;
    const core = Math.floor(index / topology.threadsPerCore) % topology.coresPerDie;
    const perDie = topology.threadsPerCore * topology.coresPerDie;
    const die = Math.floor(index / perDie) % topology.diesPerSocket;
    const socket = Math.floor(index / (perDie * topology.diesPerSocket));
    const apicId = thread + core * 2 ** shifts.core + die * 2 ** shifts.die + socket * 2 ** shifts.socket;
    return { index, apicId, socket, die, core, thread };
  });
}
