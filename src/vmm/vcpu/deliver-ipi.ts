/** Interrupts from outside, on their way into KVM. */
import { IrqLine, type KvmVm } from '../../kvm/vm.ts';
import { checkIpiVector, encodeMsi, ipiTargets, type IpiRequest } from '../../smp/ipi.ts';
import { VoltError } from '../../volt-error.ts';
import type { MachinePlan } from '../../plan/plan.ts';

/** Throws VoltError 'usage' when the request names no vCPU or vector that exists, or nobody takes it. */
export function deliverIpi(
  vm: KvmVm,
  plan: MachinePlan,
  present: readonly number[],
  request: IpiRequest,
): void {
  checkIpiVector(request);
  const targets = ipiTargets(request, present);
  if (request.mode === 'extint') {
    pulsePicInput(vm, plan, request, targets);
    return;
  }
  for (const index of targets) {
    if (!vm.signalMsi(encodeMsi(request, plan.cpus[index]!.apicId))) {
      throw new VoltError(
        'usage',
        `Cannot send ${request.mode} to vCPU ${index}: its APIC does not take it (expected one that the guest has enabled)`,
      );
    }
  }
}

/**
 * ExtINT asks the 8259 for its vector, and KVM takes it from the 8259's output alone, which goes to LINT0 of the
 * BSP: an ExtINT from outside is a pulse on one of the 8259's inputs.
 */
function pulsePicInput(vm: KvmVm, plan: MachinePlan, request: IpiRequest, targets: readonly number[]): void {
  if (targets.length !== 1 || targets[0] !== plan.bootCpu) {
    throw new VoltError(
      'usage',
      `Cannot send extint there (expected vCPU ${plan.bootCpu} alone: the 8259 is wired to the BSP)`,
    );
  }
  const line = new IrqLine(vm.fd, request.vector ?? 0);
  line.set(1);
  line.set(0);
}
