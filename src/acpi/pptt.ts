/** Processor Properties Topology Table (PPTT): sockets, dies, cores, threads. (ACPI 6.5 §5.2.29) */
import { HEADER, PPTT_FLAG, PPTT_NODE, PPTT_TYPE_NODE, SIGNATURE } from './acpi.layout.ts';
import type { AcpiCpu } from './acpi-inputs.ts';
import { buildTable, typedEntry } from './sdt.ts';

const REVISION = 3;
const NO_PARENT = 0;

/**
 * A tree of processor hierarchy nodes, parents first. Its levels are sockets, dies if a socket has several,
 * cores, and threads if a core has several. The leaves are the logical processors.
 */
export function buildPptt(cpus: readonly AcpiCpu[]): Uint8Array {
  const nodes: Uint8Array[] = [];
  const groups = new Map<string, number>();
  const withDies = cpus.some((cpu) => cpu.die > 0);
  const withThreads = cpus.some((cpu) => cpu.thread > 0);
  const append = (flags: number, parent: number, uid: number) => {
    nodes.push(processorNode(flags, parent, uid));
    return HEADER.size + PPTT_NODE.size * (nodes.length - 1);
  };
  const group = (key: string, flags: number, parent: number) => {
    const offset = groups.get(key) ?? append(flags | PPTT_FLAG.identical, parent, 0);
    groups.set(key, offset);
    return offset;
  };
  const leafFlags = PPTT_FLAG.uidValid | PPTT_FLAG.leaf | (withThreads ? PPTT_FLAG.thread : 0);
  for (const { uid, socket, die, core } of cpus) {
    let parent = group(`${socket}`, PPTT_FLAG.physicalPackage, NO_PARENT);
    if (withDies) parent = group(`${socket}.${die}`, 0, parent);
    if (withThreads) parent = group(`${socket}.${die}.${core}`, 0, parent);
    append(leafFlags, parent, uid);
  }
  return buildTable(SIGNATURE.pptt, REVISION, HEADER.size, nodes);
}

function processorNode(flags: number, parent: number, uid: number): Uint8Array {
  return typedEntry(PPTT_TYPE_NODE, PPTT_NODE.size, (_, view) => {
    view.setUint32(PPTT_NODE.flags, flags, true);
    view.setUint32(PPTT_NODE.parent, parent, true);
    view.setUint32(PPTT_NODE.uid, uid, true);
  });
}
