/**
 * Where each vCPU sits: socket, die, core, thread, and the APIC id that says so. Each level takes a bit field of
 * the APIC id just wide enough for its count, so counts that are no power of two leave gaps between ids.
 * (SDM 3A §9.9.1, "Hierarchical Mapping of Shared Resources"; CPUID leaf 0xB)
 *
 * Counts are capacities: a machine may have fewer CPUs than its topology has room for, so the last core, die or
 * socket may be partly filled. Tables and CPUID describe the capacity; only lists of CPUs (MADT, MP tables) say
 * which are there.
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
  /** Position in Volt's own order, from 0, which is the BSP. */
  readonly index: number;
  readonly apicId: number;
  readonly socket: number;
  readonly die: number;
  readonly core: number;
  readonly thread: number;
}

/** Bits that an APIC id must be shifted right by to leave the id of the level above. */
export interface TopologyShifts {
  /** → core id */
  readonly core: number;
  /** → die id */
  readonly die: number;
  /** → socket id */
  readonly socket: number;
}

export function cpuCount(topology: Topology): number {
  return topology.sockets * coresPerSocket(topology) * topology.threadsPerCore;
}

export function coresPerSocket(topology: Topology): number {
  return topology.diesPerSocket * topology.coresPerDie;
}

/** Counts that a user gave; what is missing follows from the others. */
export interface TopologyRequest {
  /** CPUs that are there from the start. */
  readonly cpus: number;
  /** CPUs that may be plugged; `cpus` without it. */
  readonly max?: number | undefined;
  readonly sockets?: number | undefined;
  readonly dies?: number | undefined;
  readonly cores?: number | undefined;
  readonly threads?: number | undefined;
}

/**
 * The topology with room for all CPUs. The counts describe those that are there from the start; CPUs to be plugged
 * come in further sockets of the same kind, or in the one socket where no count but threads and dies was given. A
 * missing `cores` spreads the CPUs over the sockets, so that the last may stay partly empty. All four are taken if
 * their product is `cpus` or `max`. Throws VoltError 'config'.
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
        `Cannot use this topology: ${sockets} sockets × ${dies} dies × ${cores} cores × ${threads} threads make ${product} CPUs (expected ${expected})`,
      );
    }
  }
  const spread = Math.ceil((sockets === undefined ? max : cpus) / ((sockets ?? 1) * perCore));
  const coresPerDie = cores ?? spread;
  const perSocket = coresPerDie * perCore;
  if (sockets !== undefined && cores === undefined && cpus <= (sockets - 1) * perSocket) {
    throw new VoltError(
      'config',
      `Cannot spread ${cpus} CPUs over ${sockets} sockets of ${dies} dies with ${threads} threads a core: one would be empty (expected fewer sockets, or more CPUs)`,
    );
  }
  return { sockets: Math.ceil(max / perSocket), diesPerSocket: dies, coresPerDie, threadsPerCore: threads };
}

export function topologyShifts(topology: Topology): TopologyShifts {
  const core = bitsFor(topology.threadsPerCore);
  const die = core + bitsFor(topology.coresPerDie);
  return { core, die, socket: die + bitsFor(topology.diesPerSocket) };
}

/** The first `count` places of a topology, threads of a core next to each other. */
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
