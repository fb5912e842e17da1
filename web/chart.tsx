/** Rates over the last minute, drawn by uPlot. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';

export interface Series {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

const HEIGHT = 180;
const COLOURS = ['#2f7ed8', '#e07b00', '#3a9e3a', '#c23b8a', '#8a63d2', '#b3831d', '#1a9ba1', '#d04444'];

export function Chart(props: {
  readonly title: string;
  /** Seconds before now, ascending. */
  readonly times: readonly number[];
  readonly series: readonly Series[];
  readonly format: (value: number) => string;
}) {
  const { title, times, series, format } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const names = series.map(({ name }) => name).join('\n');
  useEffect(() => {
    const box = place.current!;
    const ink = getComputedStyle(box).color;
    const axis = { stroke: ink, grid: { stroke: 'rgba(128,128,128,.25)' }, ticks: { show: false } };
    const chart = new uPlot(
      {
        width: Math.max(240, box.clientWidth),
        height: HEIGHT,
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: (_, __, most) => [0, Math.max(1, most)] } },
        axes: [
          { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? 'now' : `${tick} s`)) },
          { ...axis, size: 64, values: (_, ticks) => ticks.map(format) },
        ],
        series: [
          { label: 's' },
          ...series.map(({ name }, i) => ({
            label: name,
            stroke: COLOURS[i % COLOURS.length]!,
            width: 1.5,
            points: { show: false },
          })),
        ],
        legend: { live: false },
      },
      [[], ...series.map(() => [])],
      box,
    );
    plot.current = chart;
    const watcher = new ResizeObserver(() =>
      chart.setSize({ width: Math.max(240, box.clientWidth), height: HEIGHT }),
    );
    watcher.observe(box);
    return () => {
      watcher.disconnect();
      chart.destroy();
    };
    // Made anew only when the lines are others.
  }, [names]);
  useEffect(() => {
    plot.current?.setData([[...times], ...series.map(({ values }) => [...values])]);
  }, [times, series]);
  return (
    <figure>
      <figcaption>{title}</figcaption>
      <div ref={place} class="chart" />
    </figure>
  );
}
