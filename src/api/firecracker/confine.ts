/** Enters the sandbox for a microVM. */
import type { VmConfig } from '../../config/config.ts';
import type { ThreadFilters } from '../../vmm/sandbox.ts';
import { confine } from '../confine.ts';
import type { Log } from './logger.ts';

/** `hasApi`: clients may name files while the guest runs. */
export function confineMicroVm(config: VmConfig, _hasApi: boolean, log: Log): ThreadFilters | undefined {
  const { missing, filters } = confine(config, []);
  if (missing.length > 0) log.info(`the sandbox is incomplete: this host has no ${missing.join(' and no ')}`);
  return filters;
}
