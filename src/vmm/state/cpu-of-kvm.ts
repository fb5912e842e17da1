/** What this host's KVM offers a saved guest, and whether that is enough for it to go on. */
import { FEATURE_REGISTERS } from '../../cpuid/feature-names.ts';
import { findLeaf } from '../../cpuid/leaf.ts';
import { CAP } from '../../kvm/abi.ts';
import { decodeCpuid, encodeCpuid } from '../../kvm/cpuid-codec.ts';
import { msrsToSave } from '../../kvm/saved-msrs.ts';
import type { KvmSystem } from '../../kvm/system.ts';
import { readTscKhz, type KvmVcpu } from '../../kvm/vcpu.ts';
import { readCpuid, type StateSupport } from '../../kvm/vcpu-state.ts';
import type { CpuidEntry } from '../../machine/cpuid-entry.ts';
import { VoltError } from '../../volt-error.ts';
import { compareCpu, type CpuDifference, type HostCpu } from './cpu-compatibility.ts';
import { cpuNeedsOf } from './cpu-needs.ts';
import type { MachineState } from './machine-state.ts';

/** KVM_MAX_MCE_BANKS */
const MOST_MC_BANKS = 32;

/** Gives `vcpu`, which has not run yet, the CPUID table of this host. Throws SyscallError. */
export function cpuOfKvm(system: KvmSystem, vcpu: KvmVcpu, support: StateSupport): HostCpu {
  const supported = system.supportedCpuid();
  vcpu.setCpuid(encodeCpuid(supported));
  return {
    cpuid: unite(decodeCpuid(readCpuid(vcpu.fd)), supported),
    // Those that KVM does not list are on every host that has their features.
    msrs: new Set(msrsToSave(support.msrs, MOST_MC_BANKS)),
    tscDeadline: system.check(CAP.tscDeadlineTimer) > 0,
    tscKhz: readTscKhz(vcpu.fd),
    tscScaling: support.tscScaling,
  };
}

/**
 * What a vCPU of this host has seen, as a snapshot has it, with all that KVM supports. The two differ where the
 * host's CPU shows features to a guest although KVM does not offer them (kvm-pvm).
 */
function unite(seen: readonly CpuidEntry[], supported: readonly CpuidEntry[]): CpuidEntry[] {
  const features = (entry: CpuidEntry) =>
    FEATURE_REGISTERS.filter(({ leaf, index }) => leaf === entry.function && index === entry.index);
  const united = seen.map((entry) => {
    const other = findLeaf(supported, entry.function, entry.index);
    if (!other) return entry;
    const bits = features(entry).map(({ register }) => [register, (entry[register] | other[register]) >>> 0]);
    return { ...entry, ...(Object.fromEntries(bits) as Partial<CpuidEntry>) };
  });
  return [...united, ...supported.filter((entry) => !findLeaf(seen, entry.function, entry.index))];
}

/**
 * Throws VoltError 'host' with a line for each thing that this host lacks. Differences that the guest should
 * survive go to `warn`.
 */
export function checkHostCpu(
  state: Pick<MachineState, 'vcpus'>,
  host: HostCpu,
  warn: (line: string) => void,
): void {
  const { differences } = compareCpu(cpuNeedsOf(state), host);
  const lines = (verdict: CpuDifference['verdict']) =>
    differences
      .filter((each) => each.verdict === verdict)
      .map(({ where, problem }) => `${where}: ${problem}`);
  lines('warning').forEach(warn);
  const details = lines('refusal');
  if (details.length === 0) return;
  throw new VoltError(
    'host',
    `Cannot restore the guest: this host's CPU lacks what the guest has seen; use a host like its own, or --ignore-cpu if the guest does not use it`,
    { details },
  );
}
