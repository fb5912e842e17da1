/** Enters the sandbox, with the files, devices and descriptors that one configuration needs. */
import { dirname } from 'node:path';
import type { VmConfig } from '../config/config.ts';
import { sandboxNeedsOf, socketPathsOf } from '../virtio/host/specs.ts';
import { MAX_CONNECTIONS } from '../virtio/vsock/connections.ts';
import { enterSandbox, type ThreadFilters } from '../vmm/sandbox.ts';
import { defaultSocketPath } from './control/directory.ts';

/** Eventfds and files of all devices that a PCI bus can have. */
const PCI_FILES = 2048;

export interface Confinement {
  /** Features for the sandbox that this host lacks. */
  readonly missing: readonly string[];
  /** Narrower filters for vCPU and device threads, to pass to the start of each machine of this guest. */
  readonly filters: ThreadFilters | undefined;
}

/**
 * Confines the whole process, for good. Call it when everything is open, before the guest starts; afterwards
 * only machines with the same `HostResources` can be created. `sockets` are the paths of Unix sockets that
 * Volt removes when it ends; `writes` are directories below which clients may name files; `hasControl` says
 * whether there is a control socket, over which a snapshot gets its files. Throws VoltError 'host' and
 * SyscallError.
 */
export function confine(
  config: VmConfig,
  sockets: readonly string[],
  writes: readonly string[] = [],
  { hasControl = false }: { readonly hasControl?: boolean } = {},
): Confinement {
  const removesIn = [...sockets, ...socketPathsOf(config.devices)].map((path) => dirname(path));
  if (sockets.length > 0) removesIn.push(...listingDirectory());
  const devices = new Set<string>(sandboxNeedsOf(config.devices));
  if (writes.length > 0) devices.add('files');
  if (hasControl) devices.add('control');
  if (config.pci) devices.add('pci');
  const reads = [config.kernelPath, config.initrdPath, config.symbolsPath];
  return enterSandbox({
    cpus: config.maxCpus,
    reads: reads.filter((path) => path !== undefined),
    writes,
    removesIn,
    connections: (devices.has('vsock') ? MAX_CONNECTIONS : 0) + (config.pci ? PCI_FILES : 0),
    devices,
  });
}

/** The directory that `volt ps` lists, from which Volt removes its entry. */
function listingDirectory(): string[] {
  try {
    return [dirname(defaultSocketPath(process.pid))];
  } catch {
    return [];
  }
}
