/** The OpenMetrics text format 1.0. (prometheus/OpenMetrics, specification, "Text Format") */
import type { MetricFamily } from '../../schema/metric-family.ts';

export const OPEN_METRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

const SUFFIX = { counter: '_total', gauge: '', info: '_info' } as const;

type Labels = Readonly<Record<string, string | number>>;

/** Families without samples are left out. Each sample has the `common` labels, before its own. */
export function formatMetrics(families: readonly MetricFamily[], common: Labels = {}): string {
  const blocks = families
    .filter(({ samples }) => samples.length > 0)
    .map((family) => formatFamily(family, common));
  return `${blocks.join('')}# EOF\n`;
}

function formatFamily({ name, type, unit, help, samples }: MetricFamily, common: Labels): string {
  const lines = [`# TYPE ${name} ${type}`];
  if (unit !== undefined) lines.push(`# UNIT ${name} ${unit}`);
  lines.push(`# HELP ${name} ${escapeText(help)}`);
  for (const { labels, value } of samples) {
    lines.push(`${name}${SUFFIX[type]}${formatLabels({ ...common, ...labels })} ${formatValue(value)}`);
  }
  return `${lines.join('\n')}\n`;
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeText(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  return String(value);
}

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}
