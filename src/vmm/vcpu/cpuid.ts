/**
 * CPUID tables of a machine's vCPUs: encoded once, with the few entries that differ rewritten for each vCPU.
 */
import { viewOf } from '../../binary/bytes.ts';
import { buildCommonCpuid, entryForCpu, differsPerCpu, type CpuidInputs } from '../../cpuid/build-cpuid.ts';
import { encodeCpuid, putCpuidEntry } from '../../kvm/cpuid-codec.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';
import type { CpuPlacement } from '../../smp/topology.ts';
import { cpuidInputs, type HostCpuInfo, type MachinePlan } from '../../plan/plan.ts';

export class VcpuCpuid {
  readonly #inputs: CpuidInputs;
  /** Entries that differ, and their positions in the table. */
  readonly #differing: readonly { readonly entry: CpuidEntry; readonly at: number }[];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** `saved` is the table of a vCPU of a restored machine, whose later vCPUs are like it. */
  constructor(plan: MachinePlan, host: HostCpuInfo, saved: readonly CpuidEntry[] | undefined) {
    this.#inputs = cpuidInputs(plan, host);
    const common = saved ?? buildCommonCpuid(this.#inputs);
    this.#differing = common.map((entry, at) => ({ entry, at })).filter(({ entry }) => differsPerCpu(entry));
    this.#bytes = encodeCpuid(common);
    this.#view = viewOf(this.#bytes);
  }

  /** `struct kvm_cpuid2` of one vCPU, valid until the next call. */
  of(cpu: CpuPlacement): Uint8Array {
    for (const { entry, at } of this.#differing)
      putCpuidEntry(this.#view, at, entryForCpu(entry, cpu, this.#inputs.topology));
    return this.#bytes;
  }
}
