import { existsSync } from 'node:fs';

/**
 * Whether this machine's KVM works through VMX or SVM and so runs Linux guests. kvm-pvm and others that emulate
 * ring 0 open /dev/kvm too, but stop at the first instruction that their emulator lacks.
 */
export function runsLinuxHere(): boolean {
  return existsSync('/dev/kvm') && (existsSync('/sys/module/kvm_intel') || existsSync('/sys/module/kvm_amd'));
}
