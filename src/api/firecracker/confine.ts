/**
 * Enters the sandbox for a microVM. Clients of the API may name files while the guest runs, to replace a disk's and for
 * snapshots, so Landlock lets the process read, write and create files everywhere below its root; as with Firecracker, a
 * jailer's chroot restricts them further. Only the main thread may open them: the threads of vCPUs and devices have
 * filters of their own. Without an API no file can be opened.
 */
import type { VmConfig } from '../../config/config.ts';
import type { ThreadFilters } from '../../vmm/sandbox.ts';
import { confine } from '../confine.ts';
import { prepareSnapshots } from '../prepare-snapshots.ts';
import type { Log } from './logger.ts';

export function confineMicroVm(config: VmConfig, hasApi: boolean, log: Log): ThreadFilters | undefined {
  if (hasApi) prepareSnapshots();
  const { missing, filters } = confine(config, [], hasApi ? ['/'] : []);
  if (missing.length > 0) log.info(`the sandbox is incomplete: this host has no ${missing.join(' and no ')}`);
  return filters;
}
