/** Puts this process into the sandbox, with what the guest of one configuration needs. */
import { dirname } from 'node:path';
import type { VmConfig } from '../config/config.ts';
import { socketPathsOf } from '../virtio/host/specs.ts';
import { enterSandbox } from '../vmm/sandbox.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import { defaultSocketPath } from './control/directory.ts';

export interface Confinement {
  /** What this host lacks for the whole sandbox. */
  readonly missing: readonly string[];
  /** Narrows the threads of a machine's vCPUs and devices further; before its start, for each that is made for this guest. */
  readonly confineVm: (vm: VirtualMachine) => void;
}

/**
 * For good, and for the whole process: when all is open, before the guest starts. Afterwards only
 * machines with the same `HostResources` can be made. `sockets` are the paths of Unix sockets that are taken away at the end. Throws
 * VoltError 'host' and SyscallError.
 */
export function confine(config: VmConfig, sockets: readonly string[]): Confinement {
  const removesIn = [...sockets, ...socketPathsOf(config.devices)].map((path) => dirname(path));
  if (sockets.length > 0) removesIn.push(...listingDirectory());
  const reads = [config.kernelPath, config.initrdPath, config.symbolsPath];
  const { filters, missing } = enterSandbox({
    cpus: config.maxCpus,
    reads: reads.filter((path) => path !== undefined),
    removesIn,
  });
  const confineVm = (vm: VirtualMachine) => {
    if (filters) vm.confine(filters);
  };
  return { missing, confineVm };
}

/** Where `volt ps` looks, and a guest takes its entry away. */
function listingDirectory(): string[] {
  try {
    return [dirname(defaultSocketPath(process.pid))];
  } catch {
    return [];
  }
}
