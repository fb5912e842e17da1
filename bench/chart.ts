/** Charts as SVG, readable on light and dark backgrounds. */
import type { Comparison, LineChart } from './measurement.ts';

const WIDTH = 760;
const ROW = 30;
const COLOURS = ['#2f7ed8', '#d9822b', '#3a9d5d', '#a4508b', '#777777'];
const TEXT = 'font-family="sans-serif" font-size="12" fill="#808080"';
const LABEL_WIDTH = 360;

/** Ratios with the range of their middle half; one is a line, the aim a mark. On a scale of powers of two. */
export function drawRatios(title: string, comparisons: readonly Comparison[]): string {
  const values = comparisons.flatMap(({ ratio, aim }) => [ratio.low, ratio.high, aim ?? ratio.median]);
  const low = Math.floor(Math.log2(Math.min(0.5, ...values)));
  const high = Math.ceil(Math.log2(Math.max(2, ...values)));
  const x = (ratio: number) =>
    LABEL_WIDTH + ((Math.log2(ratio) - low) / (high - low)) * (WIDTH - LABEL_WIDTH - 60);
  const height = 60 + ROW * comparisons.length;
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 2 ** (low + i));
  const parts = [
    text(10, 20, `${title}: Volt ÷ peer, less is better`),
    ...ticks.flatMap((tick) => [
      line(x(tick), 34, x(tick), height - 24, tick === 1 ? '#808080' : '#80808040'),
      text(x(tick), height - 8, `${tick}×`, 'middle'),
    ]),
    ...comparisons.flatMap(({ what, peer, ratio, aim }, i) => {
      const y = 44 + ROW * i;
      return [
        text(LABEL_WIDTH - 10, y + 11, `${what} ÷ ${peer}`, 'end'),
        `<rect x="${at(x(ratio.low))}" y="${y + 5}" width="${at(Math.max(1, x(ratio.high) - x(ratio.low)))}" height="6" fill="${COLOURS[0]}" opacity="0.4"/>`,
        `<circle cx="${at(x(ratio.median))}" cy="${y + 8}" r="5" fill="${COLOURS[0]}"/>`,
        ...(aim === undefined ? [] : [line(x(aim), y - 1, x(aim), y + 17, COLOURS[2]!)]),
        text(x(Math.max(ratio.high, ratio.median)) + 10, y + 12, ratio.median.toFixed(2)),
      ];
    }),
  ];
  return svg(height, parts);
}

/** Lines over numbers, both axes from zero. */
export function drawLines({ title, x: xName, y: yName, lines }: LineChart): string {
  const points = lines.flatMap((series) => series.points);
  const [xMost, yMost] = [Math.max(...points.map(([x]) => x)), Math.max(...points.map(([, y]) => y))];
  const x = (value: number) => 60 + (value / xMost) * (WIDTH - 220);
  const y = (value: number) => 280 - (value / yMost) * 230;
  const parts = [
    text(10, 20, `${title} (${yName})`),
    line(60, 280, WIDTH - 160, 280, '#808080'),
    line(60, 50, 60, 280, '#808080'),
    text(WIDTH - 150, 296, xName),
    ...[...new Set(points.map(([value]) => value))].map((value) =>
      text(x(value), 296, String(value), 'middle'),
    ),
    ...[0.5, 1].map((part) => text(54, y(part * yMost) + 4, (part * yMost).toPrecision(3), 'end')),
    ...lines.flatMap(({ name, points: own }, i) => {
      const colour = COLOURS[i % COLOURS.length]!;
      const path = own.map(([px, py]) => `${at(x(px))},${at(y(py))}`).join(' ');
      const [endX, endY] = own.at(-1)!;
      return [
        `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        text(x(endX) + 8, y(endY) + 4, name),
      ];
    }),
  ];
  return svg(310, parts);
}

function svg(height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">\n${parts.join('\n')}\n</svg>\n`;
}

function text(x: number, y: number, words: string, anchor = 'start'): string {
  const safe = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}" ${TEXT}>${safe}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string): string {
  return `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" stroke="${colour}" stroke-width="1.5"/>`;
}

function at(value: number): string {
  return value.toFixed(1);
}
