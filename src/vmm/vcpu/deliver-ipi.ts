/** Injects interrupts from outside the guest through KVM. */
import { IrqLine, type KvmVm } from '../../kvm/vm.ts';
import { checkIpiVector, encodeMsi, ipiTargets, type IpiRequest } from '../../smp/ipi.ts';
import { VoltError } from '../../volt-error.ts';
import type { MachinePlan } from '../../plan/plan.ts';

/** Throws VoltError 'usage' for a vCPU or vector that does not exist, and where no local APIC accepts it. */
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
        `Cannot send ${request.mode} to vCPU ${index}: its local APIC does not accept it; the guest has to enable the APIC first`,
      );
    }
  }
}

/**
 * An ExtINT takes its vector from the 8259, and KVM has no other source: one from outside is a pulse on an
 * input of the 8259, whose output goes to LINT0 of the BSP.
 */
function pulsePicInput(vm: KvmVm, plan: MachinePlan, request: IpiRequest, targets: readonly number[]): void {
  if (targets.length !== 1 || targets[0] !== plan.bootCpu) {
    throw new VoltError(
      'usage',
      `Cannot send extint there: the 8259 is wired to the BSP (expected vCPU ${plan.bootCpu} alone)`,
    );
  }
  const line = new IrqLine(vm.fd, request.vector ?? 0);
  line.set(1);
  line.set(0);
}
