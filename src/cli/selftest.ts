/** `volt selftest`: a table of the embedded kernel's results with 1, 2, 4, … CPUs. */
import {
  EXIT_CODE,
  MP_TABLE_MAX_CPUS,
  selftest as runSelftest,
  selftestCounts,
  VoltError,
  type SelftestRow,
} from '../api/index.ts';
import { writeStdout } from './output.ts';

export interface SelftestFlags {
  readonly cpus: string;
  readonly quick?: true | undefined;
  readonly json?: true | undefined;
  readonly timeout: string;
}

export async function selftest(flags: SelftestFlags): Promise<number> {
  const most = wholeNumber('--cpus', flags.cpus, MP_TABLE_MAX_CPUS);
  const timeoutMs = wholeNumber('--timeout', flags.timeout, 3600) * 1000;
  const rows: SelftestRow[] = [];
  if (!flags.json) writeStdout('  CPUs  verdict  online  tables    ping mean  speed-up       time\n');
  for (const cpus of selftestCounts(most)) {
    const row = await runSelftest(cpus, flags.quick ?? false, timeoutMs);
    rows.push(row);
    if (!flags.json) writeStdout(`${formatRow(row)}\n`);
  }
  const passed = rows.every((row) => row.passed);
  if (flags.json) writeStdout(`${JSON.stringify({ passed, runs: rows }, null, 2)}\n`);
  else writeStdout(`${formatVerdict(rows)}\n`);
  return passed ? EXIT_CODE.ok : EXIT_CODE.failed;
}

/** A failure on a busy host is not a reliable result. */
export function formatVerdict(rows: readonly SelftestRow[]): string {
  const failed = rows.filter((row) => !row.passed);
  if (failed.length === 0) return 'All passed.';
  return failed.every((row) => row.busyHost)
    ? 'Some runs failed, and the host was busy; run it again when the host is idle.'
    : 'Some runs failed.';
}

export function formatRow(row: SelftestRow): string {
  const columns = [
    String(row.cpus).padStart(6),
    (row.passed ? 'pass' : 'FAIL').padStart(7),
    String(row.online).padStart(6),
    (row.tablesAgree ? 'agree' : 'differ').padStart(6),
    `${row.pingMeanUs.toFixed(1)} us`.padStart(11),
    `${row.speedup.toFixed(2)}x`.padStart(8),
    `${row.wallMs.toFixed(0)} ms`.padStart(9),
  ];
  return [...columns, ...notesOf(row)].join('  ');
}

function notesOf({ reason, busyHost, stealPercent }: SelftestRow): string[] {
  const busy = `busy host: vCPU 0 waited ${stealPercent}% of the time for a host CPU`;
  if (reason === undefined) return busyHost ? [busy] : [];
  if (stealPercent === undefined) return [reason];
  return [`${reason} (${busyHost ? busy : 'the host was not busy'})`];
}

function wholeNumber(flag: string, text: string, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= max) return value;
  throw new VoltError('usage', `Cannot use ${flag}: "${text}" (expected a whole number from 1 to ${max})`);
}
