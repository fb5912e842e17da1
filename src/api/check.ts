/** Whether a machine could start on this host, found out by building it. */
import type { VmConfig } from '../config/config.ts';
import { HostResources } from '../vmm/host-resources.ts';
import { VirtualMachine } from '../vmm/virtual-machine.ts';

/** A machine that could be built. */
export interface CheckedMachine {
  /** The kernel and how it is booted. */
  readonly boot: string;
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** Ids of the virtio devices, which could be opened. */
  readonly devices: readonly string[];
}

/**
 * Opens the kernel, the devices and /dev/kvm, makes the VM and its vCPUs, and gives everything back; no guest code
 * runs. Throws whatever a run would throw. An overlay that does not exist yet is created, as by a run.
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
