/** What a trace says, in a few lines for a terminal. Pure. The file may be any other program's, or broken. */
import { VoltError } from '../volt-error.ts';

/** A vCPU in a trace: when it came up, and its exits. */
export interface VcpuSummary {
  readonly lane: string;
  /** Milliseconds since the trace's start; undefined where the trace does not have it. */
  readonly initAt: number | undefined;
  readonly sipiAt: number | undefined;
  readonly onlineAt: number | undefined;
  readonly exits: number;
  readonly exitMs: number;
  readonly runningMs: number;
  /** The most frequent first. */
  readonly byReason: readonly (readonly [name: string, count: number, ms: number])[];
}

/** What `volt report` prints of a trace. */
export interface TraceSummary {
  readonly seconds: number;
  readonly phases: readonly { readonly name: string; readonly atMs: number }[];
  readonly vcpus: readonly VcpuSummary[];
  /** Means and maxima of counters. */
  readonly counters: readonly { readonly name: string; readonly mean: number; readonly max: number }[];
  readonly lost: number;
}

const US_PER_MS = 1000;

interface Event {
  readonly ph: string;
  readonly name: string;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly cat: string;
  readonly args: Readonly<Record<string, unknown>>;
}

/** Throws VoltError 'image' for what is no trace. */
export function summarizeTrace(text: string, path: string): TraceSummary {
  const { events, lost } = readTrace(text, path);
  const lanes = new Map<number, string>();
  for (const { ph, name, tid, args } of events)
    if (ph === 'M' && name === 'thread_name' && typeof args['name'] === 'string')
      lanes.set(tid, args['name']);
  const end = events.reduce((latest, { ts, dur }) => Math.max(latest, ts + dur), 0);
  const phases = events.filter(({ cat }) => cat === 'phase');
  const vcpuLanes = [...lanes].filter(([, name]) => name.startsWith('vCPU '));
  return {
    seconds: end / US_PER_MS / 1000,
    phases: phases.map(({ name, ts, dur }) => ({ name, atMs: (ts + dur) / US_PER_MS })),
    vcpus: vcpuLanes.map(([tid, lane]) =>
      summarizeVcpu(
        lane,
        events.filter((event) => event.tid === tid),
      ),
    ),
    counters: summarizeCounters(events),
    lost,
  };
}

function readTrace(text: string, path: string): { events: Event[]; lost: number } {
  const fail = (found: string) =>
    new VoltError(
      'image',
      `Cannot report on ${path}: ${found} (expected a file of --timeline=FILE or volt ctl trace)`,
    );
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw fail('it is no JSON');
  }
  const file = parsed as {
    readonly traceEvents?: unknown;
    readonly otherData?: { readonly lostExits?: unknown };
  } | null;
  if (typeof file !== 'object' || !Array.isArray(file?.traceEvents)) throw fail('it has no traceEvents');
  const events = file.traceEvents.map(toEvent).filter((event) => event !== undefined);
  const lost = file.otherData?.lostExits;
  return { events, lost: typeof lost === 'number' ? lost : 0 };
}

function toEvent(raw: unknown): Event | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const { ph, name, tid, ts, dur, cat, args } = raw as Readonly<Record<string, unknown>>;
  if (typeof ph !== 'string' || typeof name !== 'string') return undefined;
  const number = (value: unknown) => (typeof value === 'number' && Number.isFinite(value) ? value : 0);
  const isRecord = typeof args === 'object' && args !== null;
  return {
    ...{ ph, name, tid: number(tid), ts: number(ts), dur: number(dur) },
    cat: typeof cat === 'string' ? cat : '',
    args: isRecord ? (args as Readonly<Record<string, unknown>>) : {},
  };
}

function summarizeVcpu(lane: string, events: readonly Event[]): VcpuSummary {
  const atOf = (name: string) => {
    const found = events.find((event) => event.ph === 'i' && event.name.startsWith(name));
    return found && found.ts / US_PER_MS;
  };
  const exits = events.filter(({ cat }) => cat === 'exit');
  const reasons = new Map<string, { count: number; ms: number }>();
  for (const { name, dur } of exits) {
    const reason = reasons.get(name) ?? { count: 0, ms: 0 };
    reason.count++;
    reason.ms += dur / US_PER_MS;
    reasons.set(name, reason);
  }
  const running = events.filter(({ cat, name }) => cat === 'state' && name === 'running');
  return {
    lane,
    initAt: atOf('INIT'),
    sipiAt: atOf('SIPI'),
    onlineAt: atOf('online'),
    exits: exits.length,
    exitMs: exits.reduce((sum, { dur }) => sum + dur / US_PER_MS, 0),
    runningMs: running.reduce((sum, { dur }) => sum + dur / US_PER_MS, 0),
    byReason: [...reasons]
      .map(([name, { count, ms }]) => [name, count, ms] as const)
      .toSorted((a, b) => b[1] - a[1]),
  };
}

function summarizeCounters(events: readonly Event[]): TraceSummary['counters'] {
  const values = new Map<string, number[]>();
  for (const { ph, name, args } of events) {
    if (ph !== 'C') continue;
    for (const [key, value] of Object.entries(args)) {
      if (typeof value !== 'number') continue;
      const list = values.get(`${name}: ${key}`) ?? [];
      list.push(value);
      values.set(`${name}: ${key}`, list);
    }
  }
  return [...values].map(([name, list]) => ({
    name,
    mean: list.reduce((sum, value) => sum + value, 0) / list.length,
    max: list.reduce((most, value) => Math.max(most, value), 0),
  }));
}
