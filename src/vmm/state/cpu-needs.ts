/** What a saved guest needs of a CPU, for `compareCpu`. Pure. */
import { viewOf } from '../../binary/bytes.ts';
import { LEAF } from '../../cpuid/leaf.ts';
import { CPUID2, CPUID_ENTRY } from '../../kvm/abi.ts';
import { decodeCpuid } from '../../kvm/cpuid-codec.ts';
import { savedMsrs } from '../../kvm/saved-msrs.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';
import type { CpuNeeds } from './cpu-compatibility.ts';
import type { MachineState } from './machine-state.ts';

export function cpuNeedsOf({ vcpus }: Pick<MachineState, 'vcpus'>): CpuNeeds {
  const msrs = new Map<number, bigint>();
  for (const { index, value } of vcpus.flatMap((vcpu) => savedMsrs(vcpu.msrs))) {
    const old = msrs.get(index);
    if (old === undefined || value > old) msrs.set(index, value);
  }
  return { tables: distinctTables(vcpus.map(({ cpuid }) => cpuid)), msrs, tscKhz: vcpus[0]!.tscKhz };
}

/** One of those that differ in nothing but the vCPU's place: 64 vCPUs have one table as a rule. */
function distinctTables(tables: readonly Uint8Array[]): CpuidEntry[][] {
  return [...new Map(tables.map((table) => [contentOf(table), table])).values()].map(savedTable);
}

/** The table without its fields that have the vCPU's APIC id. */
function contentOf(table: Uint8Array): string {
  const copy = Buffer.from(table);
  for (let at: number = CPUID2.size; at + CPUID_ENTRY.size <= copy.length; at += CPUID_ENTRY.size) {
    const leaf = copy.readUInt32LE(at + CPUID_ENTRY.function);
    if (leaf === LEAF.features) copy.writeUInt32LE(0, at + CPUID_ENTRY.ebx);
    else if (PLACE_LEAVES.includes(leaf)) copy.fill(0, at + CPUID_ENTRY.eax, at + CPUID_ENTRY.size);
  }
  return copy.toString('latin1');
}

const PLACE_LEAVES: readonly number[] = [LEAF.extendedTopology, LEAF.extendedTopologyV2, LEAF.amdTopology];

/** The entries that the table has room for: the count in its header is a file's. */
export function savedTable(table: Uint8Array): CpuidEntry[] {
  const copy = table.slice();
  const view = viewOf(copy);
  const room = Math.floor((copy.length - CPUID2.size) / CPUID_ENTRY.size);
  view.setUint32(CPUID2.nent, Math.min(view.getUint32(CPUID2.nent, true), room), true);
  return decodeCpuid(copy);
}
