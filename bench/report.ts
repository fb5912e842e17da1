/** The report: one Markdown page with charts beside it, and all numbers as JSON. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawLines, drawRatios } from './chart.ts';
import type { Comparison, Figure, Findings, Measurement } from './measurement.ts';
import type { Spread } from './statistics.ts';

export interface Host {
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGib: number;
  readonly kernel: string;
  /** One-minute load averages at the start and at the end. */
  readonly load: readonly [number, number];
}

export interface Report {
  readonly date: string;
  readonly quick: boolean;
  readonly host: Host;
  readonly versions: readonly { readonly name: string; readonly version: string }[];
  /** Peers that are not installed. */
  readonly missing: readonly string[];
  readonly sections: readonly Section[];
}

export interface Section {
  /** When its run began. */
  readonly date: string;
  readonly measurement: Pick<Measurement, 'id' | 'title' | 'method' | 'whenMissed'>;
  readonly findings: Findings;
}

/** The measurements of the report in `folder`; none without a report. */
export function readSections(folder: string): Section[] {
  const file = join(folder, 'report.json');
  if (!existsSync(file)) return [];
  return [...(JSON.parse(readFileSync(file, 'utf8')) as Report).sections];
}

/** `old`, with each of `measured` replacing the measurement of its id, or appended. */
export function replaceSections(old: readonly Section[], measured: readonly Section[]): Section[] {
  const idOf = ({ measurement }: Section) => measurement.id;
  const isNew = (section: Section) => !old.some((each) => idOf(each) === idOf(section));
  const kept = old.map((each) => measured.find((section) => idOf(section) === idOf(each)) ?? each);
  return [...kept, ...measured.filter(isNew)];
}

/** Writes report.md, report.json and the charts into `folder`, which is created if necessary. Returns the page's path. */
export function writeReport(report: Report, folder: string): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
  for (const { measurement, findings } of report.sections) {
    if (findings.comparisons.length > 0)
      writeFileSync(
        join(folder, `${measurement.id}.svg`),
        drawRatios(measurement.title, findings.comparisons),
      );
    if (findings.chart) writeFileSync(join(folder, `${measurement.id}-lines.svg`), drawLines(findings.chart));
  }
  const page = join(folder, 'report.md');
  writeFileSync(page, toMarkdown(report));
  return page;
}

export function toMarkdown({ date, quick, host, versions, missing, sections }: Report): string {
  const lines = [
    '# Volt against its peers',
    '',
    `${date}, ${quick ? 'quick form: too few runs to compare by' : 'full form'}. ${host.cpus} CPUs (${host.cpu}), ${host.memoryGib} GiB, Linux ${host.kernel}; load average ${host.load[0].toFixed(1)} at the start, ${host.load[1].toFixed(1)} at the end.`,
    '',
    'A ratio is Volt by peer, of runs of the same round, so less is better and 1 is as good. All figures are medians; in brackets is the range of the middle half. Subjects take turns within each round.',
    '',
    ...versions.map(({ name, version }) => `- ${name}: ${version}`),
    ...missing.map((line) => `- Not measured: ${line}`),
    '',
    ...summaryLines(sections),
    ...sections.flatMap((section) => sectionLines(section, date)),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

/** Every figure that has an aim, at a glance. */
function summaryLines(sections: readonly Section[]): string[] {
  const rows = sections.flatMap(({ measurement: { title }, findings: { comparisons, figures } }) => [
    ...comparisons
      .filter(({ aim }) => aim !== undefined)
      .map(
        (row) => `| ${title} | ${row.what} | ${row.peer} | ${digits(row.ratio.median)} | ${verdictOn(row)} |`,
      ),
    ...figures
      .filter(({ aim }) => aim !== undefined)
      .map(
        (row) => `| ${title} | ${row.what} |  | ${digits(row.value)} ${row.unit} | ${figureVerdict(row)} |`,
      ),
  ]);
  if (rows.length === 0) return [];
  const head = ['| measured | what | peer | ratio or value | aim |', '| --- | --- | --- | --- | --- |'];
  return ['## Aims', '', ...head, ...rows, ''];
}

function sectionLines({ date, measurement, findings }: Section, reportDate: string): string[] {
  const { id, title, method, whenMissed } = measurement;
  const { comparisons, figures, skipped, chart } = findings;
  const missed =
    comparisons.some(misses) || figures.some(({ value, aim }) => aim !== undefined && value > aim);
  return [
    `## ${title}`,
    '',
    date === reportDate ? method : `${method} Measured ${date}.`,
    '',
    ...(comparisons.length === 0
      ? []
      : [
          '| what | peer | Volt | peer | ratio | aim | runs |',
          '| --- | --- | --- | --- | --- | --- | --- |',
          ...comparisons.map(comparisonRow),
          '',
          `![${title}](${id}.svg)`,
          '',
        ]),
    ...(chart ? [`![${chart.title}](${id}-lines.svg)`, ''] : []),
    ...(figures.length === 0
      ? []
      : ['| what | value | aim |', '| --- | --- | --- |', ...figures.map(figureRow), '']),
    ...skipped.map((line) => `Not measured: ${line}.\n`),
    ...(missed ? [`**An aim was missed.** ${whenMissed}`, ''] : []),
  ];
}

function comparisonRow(row: Comparison): string {
  const { what, unit, peer, ours, theirs, ratio } = row;
  return `| ${what} | ${peer} | ${shown(ours)} ${unit} | ${shown(theirs)} ${unit} | **${digits(ratio.median)}** (${digits(ratio.low)}–${digits(ratio.high)}) | ${verdictOn(row)} | ${ratio.count} |`;
}

function verdictOn(row: Comparison): string {
  return row.aim === undefined ? '' : `≤ ${row.aim}: ${misses(row) ? 'missed' : 'met'}`;
}

function figureRow(row: Figure): string {
  return `| ${row.what} | ${digits(row.value)} ${row.unit} | ${figureVerdict(row)} |`;
}

function figureVerdict({ unit, value, aim }: Figure): string {
  return aim === undefined ? '' : `≤ ${aim} ${unit}: ${value > aim ? 'missed' : 'met'}`;
}

function misses({ ratio, aim }: Comparison): boolean {
  return aim !== undefined && ratio.median > aim;
}

function shown({ median, low, high }: Spread): string {
  return `${digits(median)} (${digits(low)}–${digits(high)})`;
}

/** Three significant digits. */
function digits(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
