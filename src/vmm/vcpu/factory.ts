/** Creates a machine's vCPUs in KVM, gives each the state in which firmware would leave it, and owns them. */
import { applyMask, CpuTemplateError, type MsrMask } from '../../cpuid/cpu-template.ts';
import { changeMsrs } from '../../kvm/mask-msrs.ts';
import { RUN, KVM_MP_STATE } from '../../kvm/abi.ts';
import { readMpState, readTscKhz, type KvmVcpu } from '../../kvm/vcpu.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { needsX2apicMode, type HostCpuInfo, type MachinePlan } from '../../plan/plan.ts';
import { mpStateName } from '../../smp/vcpu-state.ts';
import { VoltError } from '../../volt-error.ts';
import { applyCommonState } from '../apply.ts';
import { VCPU_PHASE, VCPU_WORD, type SharedState } from '../bus/shared-state.ts';
import type { RestoredSource } from '../restored-source.ts';
import { VcpuCpuid } from './cpuid.ts';
import type { VcpuScheduling } from './scheduling.ts';
import type { Vcpu } from './vcpu.ts';

export interface VcpuFactoryOptions {
  readonly vm: KvmVm;
  readonly plan: MachinePlan;
  readonly shared: SharedState;
  readonly host: Omit<HostCpuInfo, 'tscKhz'>;
  /** MSRs that differ from those of KVM. */
  readonly msrs: readonly MsrMask[];
  /** How the vCPUs of the machine before were scheduled, by index; gets an entry for each that has none. */
  readonly scheduling: Map<number, VcpuScheduling>;
  /** Host CPUs of vCPUs that have no entry yet; those that are not named run anywhere. */
  readonly affinity: ReadonlyMap<number, readonly number[]>;
  /** undefined: the machine boots. */
  readonly restored: RestoredSource | undefined;
}

export class VcpuFactory implements Disposable {
  readonly #options: VcpuFactoryOptions;
  readonly #stack = new DisposableStack();
  #cpuid: VcpuCpuid | undefined;

  constructor(options: VcpuFactoryOptions) {
    this.#options = options;
  }

  /** Once for each index. Throws SyscallError for what KVM refuses. */
  create(index: number): Vcpu {
    const { vm, plan, shared, restored } = this.#options;
    const kvm = this.#stack.use(vm.createVcpu(plan.cpus[index]!.apicId));
    const words = shared.vcpuWords(index);
    // One that was plugged after the restoration starts like any other.
    const isSaved = restored !== undefined && index < restored.vcpuCount;
    words[VCPU_WORD.mpState] = isSaved ? restored.applyVcpu(kvm, index) : this.#makeReady(kvm, index);
    const parked = isSaved && restored.isParked(index);
    if (parked) words[VCPU_WORD.phase] = VCPU_PHASE.stopped;
    return {
      index,
      kvm,
      words,
      runFlags: new Uint8Array(kvm.runPage.view(0, RUN.exitReason)),
      scheduling: this.#schedulingOf(index),
      held: undefined,
      ended: parked,
    };
  }

  /** Gives a new vCPU the state in which firmware would leave it. Returns its MP state. */
  #makeReady(kvm: KvmVcpu, index: number): number {
    const { plan, host, msrs, restored } = this.#options;
    const cpu = plan.cpus[index]!;
    // The TSC frequency is the same for all vCPUs, but KVM reports it of a vCPU only.
    this.#cpuid ??= new VcpuCpuid(plan, { ...host, tscKhz: readTscKhz(kvm.fd) }, restored?.cpuid);
    kvm.setCpuid(this.#cpuid.of(cpu));
    if (needsX2apicMode(plan)) kvm.enableX2apic();
    applyCommonState(kvm);
    if (msrs.length > 0) maskMsrs(kvm.fd, msrs);
    return checkMpState(kvm.fd, index, index === plan.bootCpu);
  }

  #schedulingOf(index: number): VcpuScheduling {
    const { scheduling, affinity } = this.#options;
    const known = scheduling.get(index);
    if (known) return known;
    const initial: VcpuScheduling = { cpus: affinity.get(index), nice: undefined };
    scheduling.set(index, initial);
    return initial;
  }

  /** Closes all of them. KVM keeps a vCPU as long as its VM. */
  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Throws CpuTemplateError for an MSR that KVM does not have. */
function maskMsrs(fd: number, msrs: readonly MsrMask[]): void {
  const missing = changeMsrs(
    fd,
    msrs.map(({ index, ...mask }) => ({ index, change: (value) => applyMask(value, mask) })),
  );
  if (missing === undefined) return;
  throw new CpuTemplateError('msr', `KVM does not let MSR 0x${missing.toString(16)} be set so`, [missing]);
}

/** KVM makes the BSP runnable and APs uninitialized. Anything else is a defect. */
function checkMpState(vcpuFd: number, index: number, bsp: boolean): number {
  const expected = bsp ? KVM_MP_STATE.runnable : KVM_MP_STATE.uninitialized;
  const found = readMpState(vcpuFd);
  if (found === expected) return found;
  throw new VoltError(
    'internal',
    `Cannot start vCPU ${index}: KVM reports MP state ${mpStateName(found)} (expected ${mpStateName(expected)})`,
  );
}
