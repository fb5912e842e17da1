/** Checks whether a machine could start on this host, by building it. */
import type { VmConfig } from '../config/config.ts';
import { HostResources } from '../vmm/host-resources.ts';
import { VirtualMachine } from '../vmm/virtual-machine.ts';

/** A machine that was built successfully. */
export interface CheckedMachine {
  /** The kernel and its boot protocol. */
  readonly boot: string;
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** Ids of the virtio devices, all of which were opened. */
  readonly devices: readonly string[];
}

/**
 * Opens the kernel, the devices and /dev/kvm, creates the VM and its vCPUs, and releases everything; no guest
 * code runs. Throws the same errors as a run. An overlay that does not exist yet is created, as by a run.
 */
export function checkMachine(config: VmConfig, warn: (line: string) => void): CheckedMachine {
  using resources = new HostResources();
  using vm = new VirtualMachine(config, { resources, warn });
  return {
    boot: vm.plan.boot.summary,
    vcpus: config.cpus,
    memoryBytes: config.memoryBytes,
    devices: config.devices.map(({ id }) => id),
  };
}
