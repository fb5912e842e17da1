/** Guest NUMA nodes on the host's: which memory comes from where. */
import { bindMemory, hostNodes, MEMORY_POLICY } from '../ffi/numa.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import type { NodeMemory, NumaPlan } from '../smp/numa.ts';
import { VoltError } from '../volt-error.ts';

/**
 * Has each guest node's memory come from a host node: the one asked for, and no other; else, where the host
 * has several, one after the other in turn, as long as they have room. Before anything is written there.
 * Returns warnings; throws VoltError 'host' for a host node that is not there.
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
        `Cannot place guest node ${node} on host node ${wanted}: there is none with memory (expected one of ${available.join(', ')})`,
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
