/** Puts this process into the sandbox, with what the run of one VM needs. */
import { dirname } from 'node:path';
import { enterSandbox } from '../vmm/sandbox.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import { defaultSocketPath } from './control/directory.ts';

/**
 * For good, and for the whole process: when all is open, before `vm.start()`. `sockets` are the paths of Unix sockets
 * that are taken away at the end. Returns what this host lacks for the whole sandbox. Throws VoltError 'host' and
 * SyscallError.
 */
export function confine(vm: VirtualMachine, sockets: readonly string[]): readonly string[] {
  const removesIn = sockets.map((path) => dirname(path));
  if (sockets.length > 0) removesIn.push(...listingDirectory());
  const { vcpuFilter, missing } = enterSandbox({ cpus: vm.config.cpus, removesIn });
  if (vcpuFilter !== undefined) vm.confineVcpus(vcpuFilter);
  return missing;
}

/** Where `volt ps` looks, and a guest takes its entry away. */
function listingDirectory(): string[] {
  try {
    return [dirname(defaultSocketPath(process.pid))];
  } catch {
    return [];
  }
}
