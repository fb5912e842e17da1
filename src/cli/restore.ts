/** `volt restore`: lets a guest go on that was saved, with this terminal as its console. */
import type { ClockChoice, ConfigInput } from '../api/index.ts';
import { readSnapshot, restoreMachine } from '../api/restore.ts';
import { deviceSections } from './device-flags.ts';
import { toNumber } from './machine-flags.ts';
import { prepareRun, runGuest, type HostFlags } from './run.ts';

export interface RestoreFlags extends HostFlags {
  readonly console?: string | undefined;
  readonly cpuAffinity?: string | undefined;
  readonly symbols?: string | undefined;
  readonly hangReport?: string | undefined;
  readonly reboot?: 'always' | boolean | undefined;
  readonly clock: ClockChoice;
  readonly uffd?: string | undefined;
  readonly ignoreCpu?: true | undefined;
}

/** Returns the process's exit code. */
export async function restore(directory: string, flags: RestoreFlags): Promise<number> {
  const log = await prepareRun(flags);
  const snapshot = readSnapshot(directory, overridesOf(flags));
  for (const warning of snapshot.warnings) log.warn(warning);
  const { clock, uffd, ignoreCpu } = flags;
  return runGuest(flags, log, (options) => restoreMachine(snapshot, { ...options, clock, uffd, ignoreCpu }));
}

function overridesOf(flags: RestoreFlags): ConfigInput {
  const { console, cpuAffinity, symbols, hangReport, reboot } = flags;
  const keys = {
    console,
    cpu_affinity: cpuAffinity,
    symbols,
    hang_report_s: hangReport === undefined ? undefined : toNumber(hangReport),
    reboot: reboot === false ? 'exit' : reboot === true ? undefined : reboot,
  };
  const given = Object.entries(keys).filter(([, value]) => value !== undefined);
  const volt = given.length > 0 ? { volt: Object.fromEntries(given) } : {};
  return { ...volt, ...deviceSections(flags as unknown as Readonly<Record<string, unknown>>) };
}
