/** `volt report FILE`: a trace as text. */
import { reportTrace } from '../api/trace/report.ts';
import type { TraceSummary, VcpuSummary } from '../api/index.ts';
import { printable } from './ctl-format.ts';
import { writeStdout } from './output.ts';

const REASONS_SHOWN = 4;

export function report(path: string, { json }: { readonly json?: true | undefined }): void {
  const summary = reportTrace(path);
  writeStdout(json ? `${JSON.stringify(summary, null, 2)}\n` : formatReport(summary));
}

function formatReport({ seconds, phases, vcpus, counters, lost }: TraceSummary): string {
  const lines = [`${seconds.toFixed(2)} s traced${lost > 0 ? `; ${lost} exits were lost` : ''}`];
  if (phases.length > 0) {
    lines.push('', 'PHASES');
    for (const { name, atMs } of phases) lines.push(`${atMs.toFixed(2).padStart(12)} ms  ${printable(name)}`);
  }
  const aps = vcpus.filter(({ sipiAt }) => sipiAt !== undefined);
  if (aps.length > 0) {
    lines.push('', 'APS           INIT          SIPI    FIRST EXIT');
    for (const vcpu of aps) lines.push(formatBringUp(vcpu));
  }
  lines.push('', 'EXITS');
  for (const vcpu of vcpus) lines.push(...formatVcpu(vcpu));
  if (counters.length > 0) {
    lines.push('', 'COUNTERS       MEAN        MAX');
    for (const { name, mean, max } of counters)
      lines.push(`${mean.toFixed(1).padStart(19)} ${max.toFixed(0).padStart(10)}  ${printable(name)}`);
  }
  return `${lines.join('\n')}\n`;
}

function formatBringUp({ lane, initAt, sipiAt, onlineAt }: VcpuSummary): string {
  const at = (ms: number | undefined) => (ms === undefined ? '-' : `${ms.toFixed(2)} ms`).padStart(13);
  const name = printable(lane).split(' ').slice(0, 2).join(' ');
  return `${name.padEnd(8)}${at(initAt)} ${at(sipiAt)} ${at(onlineAt)}`;
}

function formatVcpu({ lane, exits, exitMs, runningMs, byReason }: VcpuSummary): string[] {
  const share =
    runningMs > 0 ? `, ${((100 * exitMs) / runningMs).toFixed(1)} % of its time outside of the guest` : '';
  const reasons = byReason.slice(0, REASONS_SHOWN).map(([name, count, ms]) => {
    return `${String(count).padStart(10)}  ${printable(name).padEnd(24)} ${ms.toFixed(2).padStart(10)} ms`;
  });
  return [`  ${printable(lane)}: ${exits} exits${share}`, ...reasons];
}
