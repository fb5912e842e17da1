/** One lane for each vCPU: a minute of states and load, and what it does now. */
import { useEffect, useRef } from 'preact/hooks';
import type { Observation } from './connection.ts';
import { count } from './format.ts';

const WIDTH = 240;
const HEIGHT = 28;
const SAMPLES = 120;
const SHOWN_REASONS = 3;

export function Lanes({ observations }: { readonly observations: readonly Observation[] }) {
  const last = observations.at(-1);
  if (!last) return <p class="quiet">Sampling…</p>;
  return (
    <div class="scroll">
      <table class="lanes">
        <thead>
          <tr>
            <th>vCPU</th>
            <th>Last minute</th>
            <th>State</th>
            <th>MP state</th>
            <th class="number">Host CPU</th>
            <th class="number">CPU %</th>
            <th class="number">Steal %</th>
            <th class="number">Exits/s</th>
            <th>Most exits</th>
            <th>RIP</th>
          </tr>
        </thead>
        <tbody>
          {last.look.vcpus.map((vcpu) => {
            const now = last.rates.find(({ index }) => index === vcpu.index);
            const most = Object.entries(now?.exits ?? {}).slice(0, SHOWN_REASONS);
            return (
              <tr key={vcpu.index} data-vcpu={vcpu.index} data-state={vcpu.state}>
                <th scope="row">
                  {vcpu.index}
                  {vcpu.bsp ? <small> BSP</small> : null}
                </th>
                <td>
                  <Lane index={vcpu.index} observations={observations} />
                </td>
                <td>
                  <span class={`state ${vcpu.state}`}>{vcpu.state}</span>
                </td>
                <td>{vcpu.mpState ?? '–'}</td>
                <td class="number">{vcpu.hostCpu ?? '–'}</td>
                <td class="number">{now?.cpuPercent ?? '–'}</td>
                <td class="number">{now?.stealPercent ?? '–'}</td>
                <td class="number exits">{count(now?.exitsPerSecond ?? 0)}</td>
                <td>{most.map(([reason, rate]) => `${reason} ${count(rate)}`).join(', ')}</td>
                <td class="code">{vcpu.symbol ?? vcpu.rip ?? '–'}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** The colour is the state, the height of the bar the share of a host CPU. */
function Lane({
  index,
  observations,
}: {
  readonly index: number;
  readonly observations: readonly Observation[];
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (!context) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (state: string) =>
      style.getPropertyValue(`--state-${state}`) || style.getPropertyValue('--quiet');
    const cell = WIDTH / SAMPLES;
    context.clearRect(0, 0, WIDTH, HEIGHT);
    observations.slice(-SAMPLES).forEach(({ rates }, i, shown) => {
      const vcpu = rates.find((each) => each.index === index);
      if (!vcpu) return;
      const x = (SAMPLES - shown.length + i) * cell;
      const load = Math.min(1, (vcpu.cpuPercent ?? 0) / 100);
      context.fillStyle = colour(vcpu.state);
      context.globalAlpha = 0.35;
      context.fillRect(x, 0, cell, HEIGHT);
      context.globalAlpha = 1;
      context.fillRect(x, HEIGHT * (1 - load), cell, HEIGHT * load + 1);
    });
  }, [index, observations]);
  const state = observations.at(-1)?.rates.find((each) => each.index === index)?.state ?? 'unknown';
  return (
    <canvas ref={canvas} width={WIDTH} height={HEIGHT} role="img" aria-label={`vCPU ${index}: ${state}`} />
  );
}
