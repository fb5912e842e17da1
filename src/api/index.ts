/** Volt as a library; its command line uses only this module. */
export { VoltError, type VoltErrorCode } from '../volt-error.ts';
export { SyscallError } from '../ffi/errno.ts';
export { statPath } from '../ffi/stat.ts';
export {
  addBootWord,
  BOOT_PROTOCOLS,
  DEFAULT_CMDLINE,
  DEFAULT_CPUS,
  DEFAULT_HANG_REPORT_SECONDS,
  EXIT_CODE_STYLES,
  mergeConfig,
  parseConfig,
  type ConfigInput,
  type ParsedConfig,
  type VmConfig,
} from '../config/config.ts';
export { namesRoot } from '../config/kernel-words.ts';
export { parseJsonText } from '../config/json-text.ts';
export {
  CLOCK_CHOICES,
  DEFAULT_MEMORY_MIB,
  MAXIMUM_MEMORY_MIB,
  MINIMUM_MEMORY_MIB,
  type ClockChoice,
  type ConsoleConfig,
} from '../config/machine-values.ts';
export { VirtualMachine, type VmOptions } from '../vmm/virtual-machine.ts';
export { HostResources } from '../vmm/host-resources.ts';
export { ALL_SPECS } from '../virtio/host/specs.ts';
export { EXIT_CODE, type VmEnd } from '../vmm/vm-end.ts';
export type { SnapshotOptions } from '../vmm/state/save-to-directory.ts';
export type { SnapshotProgress, SnapshotResult } from '../vmm/state/snapshot.ts';
export type { TraceSummary, VcpuSummary } from '../trace/summary.ts';
export type { TimelineFile } from './trace/timeline-file.ts';
export type { TimelineRow } from '../vmm/timeline.ts';
export { inspectFile, inspectMachine, dumpWrites, type FileInspection } from './inspect.ts';
export type { Inspection, MpInspection } from '../plan/inspection.ts';
export { checkMachine, type CheckedMachine } from './check.ts';
export { confine } from './confine.ts';
export { restore, saveGuest } from './snapshots.ts';
export type { RestoreOptions } from './restore.ts';
export type { GdbServer } from './gdb/server.ts';
export type { MetricsServer } from './metrics/server.ts';
export { hostWarnings } from './host-warnings.ts';
export { checkHost, type HostCheck } from './doctor.ts';
export { runInTerminal, stderrIsTerminal, stdoutIsTerminal, type TerminalRun } from './run-in-terminal.ts';
export { selftest, selftestCounts, type SelftestRow } from './selftest.ts';
export { VmControl } from './vm-control.ts';
export { readConsole, type ConsoleReader } from './read-console.ts';
export { openSymbols } from './open-symbols.ts';
export { parseMib } from '../schema/sizes.ts';
export { parseCpuList } from '../machine/cpu-list.ts';
export { IPI_MODES } from '../smp/ipi.ts';
export { MP_STATE_NAMES } from '../smp/vcpu-state.ts';
export { socketDirectory } from './control/directory.ts';
export * from './control/index.ts';
export type * from './control/target.ts';
export { MP_TABLE_MAX_CPUS } from '../smp/mp-table.ts';
