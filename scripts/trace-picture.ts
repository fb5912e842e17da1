/**
 * Draws the lanes of a trace as an SVG, for docs/traces.md.
 * Usage: npx bun scripts/trace-picture.ts TRACE.json [MILLISECONDS] > docs/traces.svg
 */
interface Event {
  readonly ph: string;
  readonly name: string;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly args?: { readonly name?: string };
}

const [path = '', until] = process.argv.slice(2);
const { traceEvents } = (await Bun.file(path).json()) as { traceEvents: Event[] };
const end =
  until === undefined
    ? Math.max(...traceEvents.map(({ ts = 0, dur = 0 }) => ts + dur))
    : Number(until) * 1000;

const WIDTH = 1100;
const LEFT = 190;
const LANE = 54;
const TOP = 34;
const COLORS: Readonly<Record<string, string>> = {
  phase: '#7aa6da',
  'waits for SIPI': '#d9d9d9',
  running: '#b9ca4a',
  'bring-up': '#e7c547',
  exit: '#d54e53',
};

const lanes = new Map<number, string>();
for (const { ph, name, tid, args } of traceEvents)
  if (ph === 'M' && name === 'thread_name') lanes.set(tid, args?.name ?? '');
const order = [...lanes.keys()].sort((a, b) => a - b);
const x = (ts: number) => LEFT + (Math.min(ts, end) / end) * (WIDTH - LEFT - 20);
const y = (tid: number) => TOP + order.indexOf(tid) * LANE;
const escape = (text: string) => text.replace(/[<&>]/g, (c) => `&#${c.charCodeAt(0)};`);

const HEIGHT = TOP + order.length * LANE + 40;
const parts = [
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
  `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
];
for (let i = 0; i <= 10; i++) {
  const at = x((end * i) / 10);
  parts.push(
    `<line x1="${at}" x2="${at}" y1="${TOP - 8}" y2="${HEIGHT - 34}" stroke="#eee"/>`,
    `<text x="${at}" y="${TOP - 14}" text-anchor="middle" fill="#555">${Math.round((end * i) / 10_000)} ms</text>`,
  );
}
for (const [tid, name] of lanes)
  parts.push(`<text x="8" y="${y(tid) + 24}" fill="#222">${escape(name)}</text>`);
for (const { ph, name, tid, ts = 0, dur = 0, cat } of traceEvents) {
  if (ph !== 'X' || ts > end) continue;
  const color = COLORS[name] ?? COLORS[cat ?? ''] ?? '#999';
  const isExit = cat === 'exit';
  const [top, height] = isExit ? [22, 18] : cat === 'bring-up' ? [12, 8] : [0, 40];
  const width = Math.max(isExit ? 0.6 : 0.2, x(ts + dur) - x(ts)).toFixed(1);
  parts.push(
    `<rect x="${x(ts).toFixed(1)}" y="${y(tid) + top}" width="${width}" height="${height}" fill="${color}"><title>${escape(name)}, ${(dur / 1000).toFixed(2)} ms</title></rect>`,
  );
}
for (const { ph, name, tid, ts = 0 } of traceEvents) {
  if (ph !== 'i' || ts > end) continue;
  const at = x(ts).toFixed(1);
  parts.push(
    `<line x1="${at}" x2="${at}" y1="${y(tid) - 4}" y2="${y(tid) + 44}" stroke="#222"><title>${escape(name)}</title></line>`,
  );
}
const legend = Object.entries({ ...COLORS, exit: COLORS['exit'] });
legend.forEach(([name, color], i) =>
  parts.push(
    `<rect x="${LEFT + i * 150}" y="${HEIGHT - 22}" width="12" height="12" fill="${color}"/><text x="${LEFT + i * 150 + 18}" y="${HEIGHT - 12}" fill="#222">${name}</text>`,
  ),
);
parts.push('</svg>\n');
process.stdout.write(parts.join('\n'));
