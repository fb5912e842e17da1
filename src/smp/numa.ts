/**
 * NUMA nodes of the guest: the CPUs and memory of each, and the distances between them.
 * (ACPI 6.5 §5.2.16 SRAT, §5.2.17 SLIT, §5.2.27 HMAT)
 */
import { guestAddress, MIB, type GuestAddress } from '../machine/address.ts';
import type { RamRange } from '../machine/layout.ts';
import { VoltError } from '../volt-error.ts';

/** One node as the user describes it. CPUs and memory that no node claims are distributed. */
export interface NumaRequest {
  readonly node?: number | undefined;
  /** vCPU indices */
  readonly cpus?: readonly number[] | undefined;
  readonly memoryBytes?: number | undefined;
  /** Distance to nodes 0, 1, …; 10 is local. */
  readonly distances?: readonly number[] | undefined;
  /** Read and write latency to nodes 0, 1, …, in nanoseconds. */
  readonly latencies?: readonly number[] | undefined;
  /** Bandwidth to nodes 0, 1, …, in MB/s. */
  readonly bandwidths?: readonly number[] | undefined;
  /** Host node that its memory is bound to. */
  readonly hostNode?: number | undefined;
}

export interface NumaNode {
  readonly cpus: readonly number[];
  readonly memoryBytes: number;
  readonly hostNode: number | undefined;
}

export interface NumaPlan {
  readonly nodes: readonly NumaNode[];
  /** `distances[from][to]` */
  readonly distances: readonly (readonly number[])[];
  /** `latency[from][to]` in nanoseconds; undefined if the user gave none. */
  readonly latency: readonly (readonly number[])[] | undefined;
  /** `bandwidth[from][to]` in MB/s; undefined if the user gave none. */
  readonly bandwidth: readonly (readonly number[])[] | undefined;
}

export interface NodeMemory {
  readonly address: GuestAddress;
  readonly bytes: number;
  readonly node: number;
}

const LOCAL_DISTANCE = 10;
const REMOTE_DISTANCE = 20;
/** 255 means unreachable. (ACPI 6.5 §5.2.17) */
const MAX_DISTANCE = 254;
export const MAX_NUMA_NODES = 64;

/**
 * Completes and checks the nodes. If no node names CPUs, they are distributed in blocks; otherwise every CPU
 * present at start must be named, and hotpluggable ones that no node names go to the last node. Throws
 * VoltError 'config'.
 */
export function resolveNuma(
  requests: readonly NumaRequest[],
  machine: { readonly cpus: number; readonly maxCpus: number; readonly memoryBytes: number },
): NumaPlan {
  const ordered = orderNodes(requests);
  const cpus = distributeCpus(ordered, machine.cpus, machine.maxCpus);
  const memory = distributeMemory(ordered, machine.memoryBytes);
  return {
    nodes: ordered.map(({ hostNode }, i) => ({ cpus: cpus[i]!, memoryBytes: memory[i]!, hostNode })),
    distances: resolveDistances(ordered),
    latency: resolveMatrix(ordered, 'latencies'),
    bandwidth: resolveMatrix(ordered, 'bandwidths'),
  };
}

function orderNodes(requests: readonly NumaRequest[]): NumaRequest[] {
  const ordered: NumaRequest[] = [];
  requests.forEach((request, i) => {
    const node = request.node ?? i;
    if (node >= requests.length) {
      throw numaError(
        `node ${node} of ${requests.length}`,
        `nodes 0 to ${requests.length - 1}, without a gap`,
      );
    }
    if (ordered[node]) throw numaError(`node ${node} twice`, 'each node once');
    ordered[node] = request;
  });
  return ordered;
}

function distributeCpus(requests: readonly NumaRequest[], cpus: number, maxCpus: number): number[][] {
  const nodes = requests.map((request) => [...(request.cpus ?? [])]);
  const owner = new Map<number, number>();
  nodes.forEach((list, node) => {
    for (const cpu of list) {
      if (cpu >= maxCpus) throw numaError(`vCPU ${cpu} in node ${node}`, `vCPUs from 0 to ${maxCpus - 1}`);
      if (owner.has(cpu))
        throw numaError(`vCPU ${cpu} in nodes ${owner.get(cpu)} and ${node}`, 'it in one node');
      owner.set(cpu, node);
    }
  });
  for (let cpu = 0; cpu < maxCpus; cpu++) {
    if (owner.has(cpu)) continue;
    if (owner.size > 0 && cpu < cpus)
      throw numaError(`vCPU ${cpu} in no node`, 'each vCPU in one node, or none named at all');
    const block = Math.min(Math.floor((cpu * nodes.length) / cpus), nodes.length - 1);
    nodes[owner.size === 0 ? block : nodes.length - 1]!.push(cpu);
  }
  return nodes.map((list) => list.sort((a, b) => a - b));
}

function distributeMemory(requests: readonly NumaRequest[], memoryBytes: number): number[] {
  const named = requests.reduce((sum, request) => sum + (request.memoryBytes ?? 0), 0);
  const open = requests.filter((request) => request.memoryBytes === undefined).length;
  const rest = memoryBytes - named;
  if (rest < 0 || (open === 0 && rest !== 0)) {
    throw numaError(`${named / MIB} MiB in all`, `the ${memoryBytes / MIB} MiB of the machine`);
  }
  const share = open === 0 ? 0 : Math.floor(rest / open / MIB) * MIB;
  let left = rest;
  let remaining = open;
  return requests.map((request) => {
    if (request.memoryBytes !== undefined) return request.memoryBytes;
    remaining--;
    const bytes = remaining === 0 ? left : share;
    left -= bytes;
    return bytes;
  });
}

/** A distance given for one direction also applies to the other, unless that one is given too. */
function resolveDistances(requests: readonly NumaRequest[]): number[][] {
  requests.forEach(({ distances = [] }, from) => {
    if (distances.length > requests.length) {
      throw numaError(
        `${distances.length} distances from node ${from}`,
        `at most one for each of ${requests.length} nodes`,
      );
    }
    distances.forEach((distance, to) => {
      if (from === to && distance !== LOCAL_DISTANCE)
        throw numaError(`distance ${distance} from node ${from} to itself`, `${LOCAL_DISTANCE}`);
      if (from !== to && (distance <= LOCAL_DISTANCE || distance > MAX_DISTANCE)) {
        throw numaError(
          `distance ${distance} from node ${from} to ${to}`,
          `${LOCAL_DISTANCE + 1} to ${MAX_DISTANCE}`,
        );
      }
    });
  });
  return requests.map(({ distances }, from) =>
    requests.map((other, to) =>
      from === to ? LOCAL_DISTANCE : (distances?.[to] ?? other.distances?.[from] ?? REMOTE_DISTANCE),
    ),
  );
}

/** A complete matrix or none: the HMAT cannot leave entries out. */
function resolveMatrix(
  requests: readonly NumaRequest[],
  what: 'latencies' | 'bandwidths',
): readonly (readonly number[])[] | undefined {
  const rows = requests.map((request) => request[what]);
  if (rows.every((row) => row === undefined)) return undefined;
  return rows.map((row = [], node) => {
    if (row.length !== requests.length) {
      throw numaError(
        `${row.length} ${what} of node ${node}`,
        `one for each of ${requests.length} nodes, or none anywhere`,
      );
    }
    return row;
  });
}

/** Assigns RAM to the nodes in order. A node's memory may be split in two by the MMIO hole. */
export function placeNodeMemory(
  nodes: readonly Pick<NumaNode, 'memoryBytes'>[],
  ranges: readonly RamRange[],
): NodeMemory[] {
  const pieces: NodeMemory[] = [];
  let range = 0;
  let used = 0;
  nodes.forEach(({ memoryBytes }, node) => {
    for (let left = memoryBytes; left > 0;) {
      const { address, bytes } = ranges[range]!;
      const taken = Math.min(left, bytes - used);
      pieces.push({ address: guestAddress(address + used), bytes: taken, node });
      left -= taken;
      used += taken;
      if (used === bytes) [range, used] = [range + 1, 0];
    }
  });
  return pieces;
}

function numaError(found: string, expected: string): VoltError {
  return new VoltError('config', `Cannot use these NUMA nodes: ${found} (expected ${expected})`);
}
