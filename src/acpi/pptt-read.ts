/** Decodes a PPTT and reports its errors. (ACPI 6.5 §5.2.29) */
import { hex } from '../binary/bytes.ts';
import { HEADER, PPTT_FLAG, PPTT_NODE, PPTT_TYPE_NODE } from './acpi.layout.ts';
import { readEntries, findDuplicates } from './read-entries.ts';

export interface PpttCpu {
  readonly uid: number;
  /**
   * Position among its siblings at each level, from the package down to the processor itself. Two CPUs share
   * a node of the tree if and only if their paths start with the same numbers.
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

/**
 * `table` includes the header. Parents must precede their children, as in tables built from the root down.
 */
export function readPptt(table: Uint8Array, problems: string[]): PpttContents {
  const nodes = new Map<number, Node>();
  const children = new Map<number, number>();
  const entries = readEntries('PPTT', table, HEADER.size, { [PPTT_TYPE_NODE]: PPTT_NODE.size }, problems);
  for (const { offset, view } of entries) {
    const parent = view.getUint32(PPTT_NODE.parent, true);
    const above = nodes.get(parent);
    if (parent !== 0 && above === undefined)
      problems.push(`PPTT: the parent of the node at offset ${hex(offset)} is not an earlier node`);
    const position = children.get(parent) ?? 0;
    children.set(parent, position + 1);
    nodes.set(offset, {
      flags: view.getUint32(PPTT_NODE.flags, true),
      // An invalid parent would make a cycle for `checkLeaf`.
      parent: above === undefined ? 0 : parent,
      uid: view.getUint32(PPTT_NODE.uid, true),
      path: [...(above?.path ?? []), position],
    });
  }
  const all = [...nodes.values()];
  const leaves = [...nodes].flatMap(([offset, node]) => (children.has(offset) ? [] : [node]));
  for (const leaf of leaves) checkLeaf(leaf, nodes, problems);
  for (const uid of findDuplicates(leaves.map((leaf) => leaf.uid)))
    problems.push(`PPTT: processor UID ${uid} is used twice`);
  return {
    packages: all.filter(({ flags }) => flags & PPTT_FLAG.physicalPackage).length,
    cpus: leaves.map(({ uid, path, flags }) => ({ uid, path, isThread: (flags & PPTT_FLAG.thread) !== 0 })),
  };
}

function checkLeaf(leaf: Node, nodes: ReadonlyMap<number, Node>, problems: string[]): void {
  const wanted = PPTT_FLAG.leaf | PPTT_FLAG.uidValid;
  if ((leaf.flags & wanted) !== wanted)
    problems.push(`PPTT: processor ${leaf.uid} lacks the flags for a leaf with a valid UID`);
  let packages = 0;
  for (let node: Node | undefined = leaf; node !== undefined; node = nodes.get(node.parent)) {
    if (node.flags & PPTT_FLAG.physicalPackage) packages++;
  }
  if (packages !== 1) problems.push(`PPTT: processor ${leaf.uid} is in ${packages} packages (expected 1)`);
}
