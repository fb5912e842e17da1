/** The boot as a waterfall: Volt's phases, and a lane for each vCPU from INIT to its first exit. */
import type { BootTimeline } from '../src/api/control/target.ts';
import { useAnswer } from './use.ts';

const LABEL = 150;
const WIDTH = 900;
const ROW = 22;
const TICKS = 8;

const STEPS = [
  ['readyMs', 'waits for INIT', 'wait'],
  ['initMs', 'INIT to SIPI', 'init'],
  ['sipiMs', 'SIPI to first exit', 'sipi'],
  ['firstExitMs', 'online', 'online'],
] as const;

interface Bar {
  readonly from: number;
  readonly to: number;
  readonly kind: string;
  readonly text: string;
}

export function Boot({ guest, pid }: { readonly guest: string; readonly pid: number | undefined }) {
  const { answer, error } = useAnswer<BootTimeline>('timeline', guest, pid);
  if (error !== undefined) return <p class="problem">{error}</p>;
  if (!answer) return <p class="quiet">Loading…</p>;
  const { vcpus } = answer;
  const phases = answer.phases.filter(({ phase }) => !/vCPU \d/.test(phase));
  const last = Math.max(
    ...answer.phases.map(({ atMs }) => atMs),
    ...vcpus.map((each) => each.firstExitMs ?? 0),
    1,
  );
  const end = last * 1.08;
  const x = (ms: number) => LABEL + (ms / end) * (WIDTH - LABEL);
  const lanes = vcpus.filter(({ readyMs }) => readyMs !== undefined);
  const height = (phases.length + lanes.length + 2) * ROW;
  const hasInit = lanes.some(({ initMs }) => initMs !== undefined);
  return (
    <section aria-label="Boot">
      <h3>Boot timeline</h3>
      <div class="scroll">
        <svg class="waterfall" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label="Boot timeline">
          {Array.from({ length: TICKS + 1 }, (_, i) => (end / TICKS) * i).map((ms) => (
            <g key={ms}>
              <line x1={x(ms)} x2={x(ms)} y1={ROW} y2={height} class="grid" />
              <text x={x(ms)} y={ROW * 0.7} text-anchor={ms > end * 0.97 ? 'end' : 'middle'} class="tick">
                {Math.round(ms)} ms
              </text>
            </g>
          ))}
          {phases.map(({ phase, atMs }, i) => (
            <g key={phase}>
              <title>{`${phase}: ${atMs.toFixed(2)} ms`}</title>
              <text x={0} y={(i + 1.7) * ROW} class="label">
                {phase}
              </text>
              <rect
                class="phase"
                x={x(atMs)}
                y={(i + 1.15) * ROW}
                width={Math.max(2, x(phases[i + 1]?.atMs ?? last) - x(atMs))}
                height={ROW * 0.7}
              />
            </g>
          ))}
          {lanes.map((vcpu, i) => {
            const y = phases.length + i + 1;
            return (
              <g key={vcpu.index} data-lane={vcpu.index}>
                <text x={0} y={(y + 0.7) * ROW} class="label">
                  {`vCPU ${vcpu.index} ${vcpu.bsp ? 'BSP' : 'AP'}`}
                </text>
                {barsOf(vcpu, end).map(({ from, to, kind, text }) => (
                  <rect
                    key={kind}
                    class={`bar ${kind}`}
                    data-step={kind}
                    x={x(from)}
                    y={(y + 0.15) * ROW}
                    width={Math.max(1.5, x(to) - x(from))}
                    height={ROW * 0.7}
                  >
                    <title>{`${text}: ${from.toFixed(2)} to ${to.toFixed(2)} ms`}</title>
                  </rect>
                ))}
              </g>
            );
          })}
        </svg>
      </div>
      <p class="legend">
        {STEPS.map(([, text, kind]) => (
          <span key={kind}>
            <i class={`swatch ${kind}`} /> {text}
          </span>
        ))}
      </p>
      {hasInit || lanes.length < 2 ? null : (
        <p class="quiet">INIT and SIPI are noted for guests that are started with --timeline.</p>
      )}
      <table>
        <thead>
          <tr>
            <th>vCPU</th>
            <th class="number">Ready</th>
            <th class="number">INIT</th>
            <th class="number">SIPI</th>
            <th class="number">First exit</th>
          </tr>
        </thead>
        <tbody>
          {lanes.map((vcpu) => (
            <tr key={vcpu.index}>
              <th scope="row">{vcpu.index}</th>
              {STEPS.map(([key]) => (
                <td key={key} class="number">
                  {vcpu[key] === undefined ? '–' : `${vcpu[key].toFixed(2)} ms`}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** From each noted step to the next one that was noted. */
function barsOf(vcpu: BootTimeline['vcpus'][number], end: number): Bar[] {
  if (vcpu.bsp) return [{ from: vcpu.readyMs!, to: end, kind: 'online', text: 'runs' }];
  const noted = STEPS.flatMap(([key, text, kind]) =>
    vcpu[key] === undefined ? [] : [{ from: vcpu[key], kind, text }],
  );
  return noted.map((step, i) => ({ ...step, to: noted[i + 1]?.from ?? end }));
}
