/** Keeps vCPUs that have no thread yet from their first instruction. */
import { RUN } from '../../kvm/abi.ts';
import { VCPU_COMMAND, VCPU_WORD } from '../bus/shared-state.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';

/** Call it before the machine starts: the first KVM_RUN of each returns at once, and finds that it is to pause. */
export function holdBeforeStart(vcpus: readonly Vcpu[]): readonly Vcpu[] {
  for (const { words, runFlags } of vcpus) {
    Atomics.store(words, VCPU_WORD.command, VCPU_COMMAND.pause);
    runFlags[RUN.immediateExit] = 1;
  }
  return vcpus;
}
