/** Which host NUMA node the memory of each guest node is allocated from. */
import { bindMemory, hostNodes, MEMORY_POLICY } from '../ffi/numa.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { NodeMemory, NumaPlan } from '../smp/numa.ts';
import { VoltError } from '../volt-error.ts';

/**
 * Sets the memory policy of each guest node: bound to the host node that was asked for; else, where the host
 * has several, preferring one host node after the other in turn. To be called before that memory is touched.
 * Returns warnings; throws VoltError 'host' for a host node that does not exist.
 */
export function bindNodes(
  memory: GuestMemory,
  pieces: readonly NodeMemory[],
  numa: NumaPlan | undefined,
): string[] {
  if (!numa) return [];
  const available = hostNodes();
  for (const { address, bytes, node } of pieces) {
    const wanted = numa.nodes[node]!.hostNode;
    if (wanted !== undefined && !available.includes(wanted)) {
      throw new VoltError(
        'host',
        `Cannot place guest node ${node} on host node ${wanted}: no such node has memory (expected one of ${available.join(', ')})`,
      );
    }
    if (wanted === undefined && available.length === 1) continue;
    const target = wanted ?? available[node % available.length]!;
    const policy = wanted === undefined ? MEMORY_POLICY.preferred : MEMORY_POLICY.bind;
    bindMemory(memory.hostAddress(address, bytes), bytes, target, policy);
  }
  if (available.length > 1 || numa.nodes.every(({ hostNode }) => hostNode !== undefined)) return [];
  const { length } = numa.nodes;
  return [
    `the host has one NUMA node, so the memory of ${length === 1 ? 'the guest node' : `all ${length} guest nodes`} is equally far from every vCPU`,
  ];
}
