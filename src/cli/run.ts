/** `volt run`: boots a guest with this terminal as its console. */
import { EXIT_CODE, runInTerminal, VirtualMachine, type TimelineRow } from '../api/index.ts';
import { createLog, writeStderr, type Log } from './log.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';

export interface RunFlags extends MachineFlags {
  readonly timeline?: true | undefined;
}

/** Returns the process's exit code. */
export async function run(flags: RunFlags): Promise<number> {
  const log = createLog(flags.logLevel);
  if (flags.kernel === undefined && flags.config === undefined) return explainMissingKernel(log);
  const config = toConfig(flags, log);
  const vm = new VirtualMachine(config, { timeline: flags.timeline ?? false });
  log.info(`${vm.plan.boot.summary}; ${config.cpus} vCPUs, ${config.memoryBytes / 2 ** 20} MiB`);
  const { end, exitCode } = await runInTerminal(vm, config.console, (line) =>
    writeStderr(`volt: ${line}\r\n`),
  );
  for (const line of end.lines) log.error(line);
  if (end.lines.length === 0) log.info(`guest ended: ${end.kind} on vCPU ${end.vcpu}`);
  if (flags.timeline) printTimeline(vm.timeline.rows(vm.shared));
  return exitCode;
}

function explainMissingKernel(log: Log): number {
  log.error('Cannot start: no kernel was given (expected --kernel FILE)');
  log.error(
    '  any Linux will do, such as /boot/vmlinuz of this host or the vmlinuz inside a linux-image package; try',
  );
  log.error('  volt --cpus 2 --kernel /boot/vmlinuz --initrd /boot/initrd.img');
  return EXIT_CODE.usage;
}

function printTimeline(rows: readonly TimelineRow[]): void {
  const lines = rows.map(({ phase, atMs }) => `${atMs.toFixed(2).padStart(10)} ms  ${phase}`);
  writeStderr(`${lines.join('\n')}\n`);
}
