/** Heterogeneous Memory Attribute Table: latency and bandwidth between nodes. (ACPI 6.5 §5.2.27) */
import { putU64, viewOf } from '../binary/bytes.ts';
import {
  HMAT,
  HMAT_DATA,
  HMAT_INITIATOR_VALID,
  HMAT_LOCALITY,
  HMAT_MEMORY,
  HMAT_TYPE,
  SIGNATURE,
} from './acpi.layout.ts';
import type { AcpiCpu, AcpiNuma, NodeMatrix } from './acpi-inputs.ts';
import { buildTable } from './sdt.ts';

const REVISION = 2;
/** Base units: latency is in picoseconds, bandwidth in MB/s. (§5.2.27.4) */
const PICOSECONDS_PER_NANOSECOND = 1000;
/** 0xFFFF means unreachable. */
const HIGHEST_ENTRY = 0xfffe;

/** Nodes with CPUs are initiators, nodes with memory are targets. */
export function buildHmat(cpus: readonly AcpiCpu[], numa: AcpiNuma): Uint8Array {
  const initiators = sortedNodes(cpus.map((cpu) => cpu.node ?? 0));
  const targets = sortedNodes(numa.memory.map(({ node }) => node));
  const locality = (dataType: number, matrix: NodeMatrix, unit: number) =>
    localityInformation(dataType, initiators, targets, matrix, unit);
  return buildTable(SIGNATURE.hmat, REVISION, HMAT.size, [
    ...targets.map((target) => memoryAttributes(nearest(initiators, target, numa.distances), target)),
    ...(numa.latency ? [locality(HMAT_DATA.accessLatency, numa.latency, PICOSECONDS_PER_NANOSECOND)] : []),
    ...(numa.bandwidth ? [locality(HMAT_DATA.accessBandwidth, numa.bandwidth, 1)] : []),
  ]);
}

function sortedNodes(nodes: readonly number[]): number[] {
  return [...new Set(nodes)].sort((a, b) => a - b);
}

/** The initiator attached to `target`: the target itself if it has CPUs, otherwise the closest one. */
function nearest(initiators: readonly number[], target: number, distances: NodeMatrix): number {
  const distance = (from: number) => distances[from]?.[target] ?? 0xff;
  return initiators.reduce((best, from) => (distance(from) < distance(best) ? from : best));
}

function memoryAttributes(initiator: number, memory: number): Uint8Array {
  const entry = new Uint8Array(HMAT_MEMORY.size);
  const view = viewOf(entry);
  view.setUint16(0, HMAT_TYPE.memoryAttributes, true);
  view.setUint32(HMAT_MEMORY.length, HMAT_MEMORY.size, true);
  view.setUint16(HMAT_MEMORY.flags, HMAT_INITIATOR_VALID, true);
  view.setUint32(HMAT_MEMORY.initiator, initiator, true);
  view.setUint32(HMAT_MEMORY.memory, memory, true);
  return entry;
}

function localityInformation(
  dataType: number,
  initiators: readonly number[],
  targets: readonly number[],
  matrix: NodeMatrix,
  unit: number,
): Uint8Array {
  const values = initiators.flatMap((from) => targets.map((to) => matrix[from]?.[to] ?? 0));
  // Entries have 16 bits: larger values are stored in tens, hundreds and so on, with a larger base unit.
  let scale = 1;
  while (Math.max(...values) / scale > HIGHEST_ENTRY) scale *= 10;
  const lists = [...initiators, ...targets];
  const entry = new Uint8Array(HMAT_LOCALITY.size + 4 * lists.length + 2 * values.length);
  const view = viewOf(entry);
  view.setUint16(0, HMAT_TYPE.localityInformation, true);
  view.setUint32(HMAT_LOCALITY.length, entry.length, true);
  entry[HMAT_LOCALITY.dataType] = dataType;
  view.setUint32(HMAT_LOCALITY.initiators, initiators.length, true);
  view.setUint32(HMAT_LOCALITY.targets, targets.length, true);
  putU64(view, HMAT_LOCALITY.baseUnit, unit * scale);
  lists.forEach((node, i) => view.setUint32(HMAT_LOCALITY.size + 4 * i, node, true));
  const matrixAt = HMAT_LOCALITY.size + 4 * lists.length;
  values.forEach((value, i) => view.setUint16(matrixAt + 2 * i, Math.round(value / scale), true));
  return entry;
}
