/** The CPUID tables of a machine's vCPUs, which differ in a few entries: encoded once, and those entries for each. */
import { viewOf } from '../../binary/bytes.ts';
import { buildCommonCpuid, entryForCpu, differsPerCpu, type CpuidInputs } from '../../cpuid/build-cpuid.ts';
import { encodeCpuid, putCpuidEntry } from '../../kvm/cpuid-codec.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';
import type { CpuPlacement } from '../../smp/topology.ts';
import { cpuidInputs, type HostCpuInfo, type MachinePlan } from '../../plan/plan.ts';

export class VcpuCpuid {
  readonly #inputs: CpuidInputs;
  readonly #placed: readonly { readonly entry: CpuidEntry; readonly at: number }[];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(plan: MachinePlan, host: HostCpuInfo) {
    this.#inputs = cpuidInputs(plan, host);
    const common = buildCommonCpuid(this.#inputs);
    this.#placed = common.map((entry, at) => ({ entry, at })).filter(({ entry }) => differsPerCpu(entry));
    this.#bytes = encodeCpuid(common);
    this.#view = viewOf(this.#bytes);
  }

  /** `struct kvm_cpuid2` of one vCPU, valid until the next call. */
  of(place: CpuPlacement): Uint8Array {
    for (const { entry, at } of this.#placed)
      putCpuidEntry(this.#view, at, entryForCpu(entry, place, this.#inputs.topology));
    return this.#bytes;
  }
}
