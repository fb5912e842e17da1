/** The table of `volt top` as lines of text. Pure. */
import type { ControlResult } from '../api/index.ts';
import { formatDuration, formatMpState, formatPlace, printable } from './ctl-format.ts';
import type { VcpuRates } from './top-rates.ts';

export interface TableOptions {
  /** Maximum number of characters per line. */
  readonly width: number;
  readonly colour: boolean;
}

interface Column {
  readonly title: string;
  readonly right?: true;
  /** In a narrow window, columns are removed in the order of this number, the highest first; others stay. */
  readonly removal?: number;
  readonly cell: (vcpu: VcpuRates) => string;
}

const SHOWN_EXIT_REASONS = 3;

const COLUMNS: readonly Column[] = [
  { title: 'VCPU', right: true, cell: ({ index }) => String(index) },
  { title: 'STATE', cell: ({ state }) => state },
  { title: 'MP STATE', removal: 4, cell: formatMpState },
  { title: 'HOST', right: true, removal: 3, cell: ({ hostCpu }) => String(hostCpu ?? '-') },
  { title: 'CPU%', right: true, cell: ({ cpuPercent }) => formatPercent(cpuPercent) },
  { title: 'STEAL%', right: true, removal: 2, cell: ({ stealPercent }) => formatPercent(stealPercent) },
  { title: 'EXITS/s', right: true, cell: ({ exitsPerSecond }) => String(Math.round(exitsPerSecond)) },
  { title: 'MOST', removal: 5, cell: ({ exits }) => formatReasons(exits) },
  { title: 'RIP', removal: 1, cell: formatPlace },
];

const STATE_COLOUR: Readonly<Record<string, string>> = {
  running: '32',
  halted: '90',
  'waiting-for-sipi': '90',
  paused: '33',
  stopped: '31',
};

/** A line for the guest, one with titles, and one per vCPU. */
export function formatTop(
  status: ControlResult<'status'>,
  rates: readonly VcpuRates[],
  { width, colour }: TableOptions,
): string[] {
  const columns = columnsThatFit(rates, width);
  const cells = rates.map((vcpu) =>
    columns.map(({ column, width }) => fit(printable(column.cell(vcpu)), width, column)),
  );
  const titles = columns.map(({ column, width }) => fit(column.title, width, column)).join('  ');
  const rows = cells.map((row, i) => paint(cut(row.join('  ').trimEnd(), width), row, rates[i]!, colour));
  return [
    cut(headline(status), width),
    colour ? `\x1b[1m${cut(titles.trimEnd(), width)}\x1b[0m` : cut(titles.trimEnd(), width),
    ...rows,
  ];
}

function headline({ pid, state, vcpus, uptimeMs, kernel }: ControlResult<'status'>): string {
  return printable(`guest ${pid}: ${state}, ${vcpus} vCPUs, up ${formatDuration(uptimeMs)}, ${kernel}`);
}

interface FittedColumn {
  readonly column: Column;
  readonly width: number;
}

function columnsThatFit(rates: readonly VcpuRates[], width: number): FittedColumn[] {
  let columns = COLUMNS.map((column) => ({
    column,
    width: Math.max(column.title.length, ...rates.map((vcpu) => printable(column.cell(vcpu)).length)),
  }));
  const total = () => columns.reduce((sum, column) => sum + column.width + 2, -2);
  while (total() > width) {
    const last = Math.max(...columns.map(({ column }) => column.removal ?? 0));
    if (last === 0) break;
    columns = columns.filter(({ column }) => column.removal !== last);
  }
  return columns;
}

function fit(text: string, width: number, { right }: Column): string {
  return right ? text.padStart(width) : text.padEnd(width);
}

/** Colours the state, which is the second cell, after the line was truncated. */
function paint(line: string, row: readonly string[], { state }: VcpuRates, colour: boolean): string {
  const code = colour ? STATE_COLOUR[state] : undefined;
  const start = row[0]!.length + 2;
  if (code === undefined || line.length < start + state.length) return line;
  const end = start + state.length;
  return `${line.slice(0, start)}\x1b[${code}m${line.slice(start, end)}\x1b[0m${line.slice(end)}`;
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`;
}

function formatPercent(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(1);
}

function formatReasons(exits: Readonly<Record<string, number>>): string {
  const shown = Object.entries(exits).slice(0, SHOWN_EXIT_REASONS);
  return shown.length === 0 ? '-' : shown.map(([reason, rate]) => `${reason} ${Math.round(rate)}`).join(', ');
}
