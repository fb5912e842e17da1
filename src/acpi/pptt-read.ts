/** Reads a PPTT back and says what is wrong with it. (ACPI 6.5 §5.2.29) */
import { hex } from '../binary/bytes.ts';
import { HEADER, PPTT_FLAG, PPTT_NODE, PPTT_TYPE_NODE } from './acpi.layout.ts';
import { readEntries, findDuplicates } from './read-entries.ts';

export interface PpttCpu {
  readonly uid: number;
  /**
   * Which group of each level it belongs to, from the package down, its own place last. CPUs share a group if and
   * only if their paths start with the same numbers.
   */
  readonly path: readonly number[];
  readonly isThread: boolean;
}

export interface PpttContents {
  readonly packages: number;
  readonly cpus: readonly PpttCpu[];
}

interface Node {
  readonly flags: number;
  readonly parent: number;
  readonly uid: number;
  readonly path: readonly number[];
}

/** `table` has its header. A parent has to stand before its children, as it does in tables made from the top down. */
export function readPptt(table: Uint8Array, problems: string[]): PpttContents {
  const nodes = new Map<number, Node>();
  const children = new Map<number, number>();
  const entries = readEntries('PPTT', table, HEADER.size, { [PPTT_TYPE_NODE]: PPTT_NODE.size }, problems);
  for (const { offset, view } of entries) {
    const parent = view.getUint32(PPTT_NODE.parent, true);
    const above = nodes.get(parent);
    if (parent !== 0 && above === undefined)
      problems.push(`PPTT: the parent of the node at offset ${hex(offset)} is not a node before it`);
    const position = children.get(parent) ?? 0;
    children.set(parent, position + 1);
    nodes.set(offset, {
      flags: view.getUint32(PPTT_NODE.flags, true),
      // Only upwards, or one that names itself or a later one would make a circle.
      parent: above === undefined ? 0 : parent,
      uid: view.getUint32(PPTT_NODE.uid, true),
      path: [...(above?.path ?? []), position],
    });
  }
  const all = [...nodes.values()];
  const leaves = [...nodes].flatMap(([offset, node]) => (children.has(offset) ? [] : [node]));
  for (const leaf of leaves) checkLeaf(leaf, nodes, problems);
  for (const uid of findDuplicates(leaves.map((leaf) => leaf.uid)))
    problems.push(`PPTT: processor ${uid} is in it twice`);
  return {
    packages: all.filter(({ flags }) => flags & PPTT_FLAG.physicalPackage).length,
    cpus: leaves.map(({ uid, path, flags }) => ({ uid, path, isThread: (flags & PPTT_FLAG.thread) !== 0 })),
  };
}

function checkLeaf(leaf: Node, nodes: ReadonlyMap<number, Node>, problems: string[]): void {
  const wanted = PPTT_FLAG.leaf | PPTT_FLAG.uidValid;
  if ((leaf.flags & wanted) !== wanted)
    problems.push(`PPTT: processor ${leaf.uid} is not marked as a leaf with a valid id`);
  let packages = 0;
  for (let node: Node | undefined = leaf; node !== undefined; node = nodes.get(node.parent)) {
    if (node.flags & PPTT_FLAG.physicalPackage) packages++;
  }
  if (packages !== 1) problems.push(`PPTT: processor ${leaf.uid} is in ${packages} packages (expected 1)`);
}
