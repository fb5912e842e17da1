/** Puts this process into the sandbox, with what the run of one VM needs. */
import { dirname } from 'node:path';
import { enterSandbox } from '../vmm/sandbox.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import { defaultSocketPath } from './control/directory.ts';

/**
 * For good, and for the whole process: when all is open, before `vm.start()`. `controlPath` is that of the control
 * socket. Returns what this host lacks for the whole sandbox. Throws VoltError 'host' and SyscallError.
 */
export function confine(vm: VirtualMachine, controlPath: string | undefined): readonly string[] {
  const removesIn =
    controlPath === undefined ? [] : [dirname(controlPath), dirname(defaultSocketPath(process.pid))];
  const { vcpuFilter, missing } = enterSandbox({ cpus: vm.config.cpus, removesIn });
  if (vcpuFilter !== undefined) vm.confineVcpus(vcpuFilter);
  return missing;
}
