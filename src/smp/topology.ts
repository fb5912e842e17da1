/**
 * Where each vCPU sits: socket, die, core, thread, and the APIC id that says so. Each level takes a bit field of
 * the APIC id just wide enough for its count, so counts that are no power of two leave gaps between ids.
 * (SDM 3A §9.9.1, "Hierarchical Mapping of Shared Resources"; CPUID leaf 0xB)
 */
import { bitsFor } from '../binary/bits.ts';

export interface Topology {
  readonly sockets: number;
  readonly diesPerSocket: number;
  readonly coresPerDie: number;
  readonly threadsPerCore: number;
}

export interface CpuPlace {
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

/** One socket with one die; `cpus` need not be a multiple of `threadsPerCore`, the last core is then not full. */
export function singleSocket(cpus: number, threadsPerCore: number): Topology {
  return { sockets: 1, diesPerSocket: 1, coresPerDie: Math.ceil(cpus / threadsPerCore), threadsPerCore };
}

export function topologyShifts(topology: Topology): TopologyShifts {
  const core = bitsFor(topology.threadsPerCore);
  const die = core + bitsFor(topology.coresPerDie);
  return { core, die, socket: die + bitsFor(topology.diesPerSocket) };
}

/** The first `count` places of a topology, threads of a core next to each other. */
export function placeCpus(topology: Topology, count: number = cpuCount(topology)): CpuPlace[] {
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
