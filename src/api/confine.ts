/** Puts this process into the sandbox, with what the guest of one configuration needs. */
import { dirname } from 'node:path';
import type { VmConfig } from '../config/config.ts';
import { socketPathsOf } from '../virtio/host/specs.ts';
import { MAX_CONNECTIONS } from '../virtio/vsock/connections.ts';
import { enterSandbox, type ThreadFilters } from '../vmm/sandbox.ts';
import { defaultSocketPath } from './control/directory.ts';

export interface Confinement {
  /** What this host lacks for the whole sandbox. */
  readonly missing: readonly string[];
  /**
   * For the start of each machine of this guest: filters that narrow the threads of vCPUs and devices
   * further.
   */
  readonly filters: ThreadFilters | undefined;
}

/**
 * For good, and for the whole process: when all is open, before the guest starts. Afterwards only machines
 * with the same `HostResources` can be made. `sockets` are the paths of Unix sockets that are taken away at
 * the end. Throws VoltError 'host' and SyscallError.
 */
export function confine(config: VmConfig, sockets: readonly string[]): Confinement {
  const removesIn = [...sockets, ...socketPathsOf(config.devices)].map((path) => dirname(path));
  if (sockets.length > 0) removesIn.push(...listingDirectory());
  const devices = new Set(config.devices.map(({ kind }) => kind));
  const reads = [config.kernelPath, config.initrdPath, config.symbolsPath];
  return enterSandbox({
    cpus: config.maxCpus,
    reads: reads.filter((path) => path !== undefined),
    removesIn,
    connections: devices.has('vsock') ? MAX_CONNECTIONS : 0,
    devices,
  });
}

/** Where `volt ps` looks, and a guest takes its entry away. */
function listingDirectory(): string[] {
  try {
    return [dirname(defaultSocketPath(process.pid))];
  } catch {
    return [];
  }
}
