/** `volt config`: the whole configuration of a guest, defaults included, as a configuration file. */
import { EXIT_CODE, type VmConfig } from '../api/index.ts';
import { findDefinition } from '../api/guests/definitions.ts';
import { completeConfig, parseRunningConfig, readRunningConfig } from '../api/guests/guest-config.ts';
import { isGuestName } from '../api/guests/guest-name.ts';
import { findRunning } from '../api/guests/running-guest.ts';
import { guestSocket } from './find-guest.ts';
import { createLog } from './log.ts';
import { toConfig } from './machine-options.ts';
import { writeStdout } from './output.ts';

/** Of a running guest, or of one that is defined. */
export async function config(guest: string): Promise<number> {
  const defined = definedConfig(guest);
  const whole = defined ? completeConfig(defined) : await readRunningConfig(guestSocket(guest));
  writeStdout(`${JSON.stringify(whole, null, 2)}\n`);
  return EXIT_CODE.ok;
}

/** The configuration of a guest by its name, process id or socket. */
export async function configOf(guest: string): Promise<VmConfig> {
  return definedConfig(guest) ?? (await parseRunningConfig(guestSocket(guest)));
}

/** Undefined for a guest that runs. */
function definedConfig(guest: string): VmConfig | undefined {
  if (!isGuestName(guest) || findRunning(guest)) return undefined;
  const definition = findDefinition(guest);
  if (!definition) return undefined;
  const flags = {
    config: definition.path,
    acpi: true,
    mptable: true,
    logLevel: 'warn',
    logFormat: 'text',
  } as const;
  return toConfig(flags, createLog('warn'));
}
