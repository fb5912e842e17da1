/**
 * `volt check`: opens and builds everything that `volt run` would, and reports whether the guest could start.
 */
import { checkMachine, EXIT_CODE, hostWarnings } from '../api/index.ts';
import { createLog, setLogFormat } from './log.ts';
import { writeStdout } from './output.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';

export interface CheckFlags extends MachineFlags {
  readonly json?: true | undefined;
}

/** Returns exit code 0, or throws the error that `volt run` would throw. */
export function check(flags: CheckFlags): number {
  setLogFormat(flags.logFormat);
  const warnings: string[] = [];
  const log = createLog(flags.logLevel);
  const warn = (line: string) => {
    warnings.push(line);
    log.warn(line);
  };
  const config = toConfig(flags, { ...log, warn });
  const summary = checkMachine(config, warn);
  hostWarnings(config).forEach(warn);
  writeStdout(
    flags.json ? `${JSON.stringify({ ...summary, warnings }, null, 2)}\n` : `OK: ${summary.boot}\n`,
  );
  return EXIT_CODE.ok;
}
