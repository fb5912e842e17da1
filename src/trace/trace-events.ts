/**
 * A trace in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open. Pure. ("Trace Event Format", Google,
 * 2016: complete events X, counters C, instants i, metadata M; times in microseconds)
 *
 * Lanes: one for the phases of the boot, one for each vCPU. On a vCPU's lane `waits for SIPI` and `running` have the exits
 * inside them: each from where KVM_RUN returned to where it is called again, while Volt handles it. A gap is the guest.
 */
import { TRACE_ERRNO, TRACE_EVENT } from './ring.layout.ts';
import type { TracedVcpu, TraceInput } from './trace-input.ts';

export interface TraceEvent {
  readonly ph: 'X' | 'C' | 'i' | 'M';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly s?: 't';
  readonly args?: Readonly<Record<string, unknown>>;
}

const PID = 1;
const BOOT_LANE = 1;
const FIRST_VCPU_LANE = 10;
const EINTR = 4;
const EAGAIN = 11;
/** KVM_EXIT_IO and KVM_EXIT_MMIO, whose detail is a port or an address. */
const EXIT_IO = 2;
const EXIT_MMIO = 6;

/** The pieces of the file's text, one after the other. */
export function* formatTrace(input: TraceInput): Generator<string> {
  yield '{"traceEvents":[\n';
  let separator = '';
  for (const event of traceEvents(input)) {
    yield `${separator}${JSON.stringify(event)}`;
    separator = ',\n';
  }
  const otherData = { producer: 'volt', lostExits: input.lost };
  yield `\n],"displayTimeUnit":"ms","otherData":${JSON.stringify(otherData)}}\n`;
}

export function* traceEvents(input: TraceInput): Generator<TraceEvent> {
  yield* nameLanes(input);
  yield* phaseEvents(input);
  for (const vcpu of input.vcpus) yield* vcpuEvents(input, vcpu);
  for (const { at, name, values } of input.counters)
    if (at >= input.from)
      yield { ph: 'C', name, pid: PID, tid: BOOT_LANE, ts: micros(input, at), args: values };
}

function micros({ from }: TraceInput, at: number): number {
  return Math.round(Math.max(0, at - from) * 1000 * 1000) / 1000;
}

function* nameLanes({ vcpus }: TraceInput): Generator<TraceEvent> {
  const name = (tid: number, text: string): TraceEvent[] => [
    { ph: 'M', name: 'thread_name', pid: PID, tid, args: { name: text } },
    { ph: 'M', name: 'thread_sort_index', pid: PID, tid, args: { sort_index: tid } },
  ];
  yield { ph: 'M', name: 'process_name', pid: PID, tid: BOOT_LANE, args: { name: 'volt' } };
  yield* name(BOOT_LANE, 'boot');
  for (const { index, apicId, isBsp } of vcpus)
    yield* name(FIRST_VCPU_LANE + index, `vCPU ${index} (${isBsp ? 'BSP' : 'AP'}, APIC id ${apicId})`);
}

/** Each phase from the end of the one before to its own. */
function* phaseEvents(input: TraceInput): Generator<TraceEvent> {
  const { phases, firstConsoleByteAt, from } = input;
  const lane = { pid: PID, tid: BOOT_LANE };
  let start = from;
  for (const { name, at } of phases) {
    if (at < from) continue;
    yield {
      ph: 'X',
      name,
      ...lane,
      cat: 'phase',
      ts: micros(input, start),
      dur: micros(input, at) - micros(input, start),
    };
    start = at;
  }
  if (firstConsoleByteAt >= from && firstConsoleByteAt > 0)
    yield { ph: 'i', s: 't', name: 'first console byte', ...lane, ts: micros(input, firstConsoleByteAt) };
}

function* vcpuEvents(input: TraceInput, vcpu: TracedVcpu): Generator<TraceEvent> {
  const { exits, isBsp, enteredAt, initAt, sipiAt } = vcpu;
  const lane = { pid: PID, tid: FIRST_VCPU_LANE + vcpu.index };
  const slice = (
    name: string,
    cat: string,
    start: number,
    end: number,
    args?: TraceEvent['args'],
  ): TraceEvent => {
    const ts = micros(input, start);
    const dur = Math.max(0, micros(input, end) - ts);
    return { ph: 'X', name, ...lane, cat, ts, dur, ...(args ? { args } : {}) };
  };
  const firstExit = firstExitOf(vcpu);
  const startedAt = isBsp ? enteredAt : sipiAt || firstExit;
  if (enteredAt === 0) return;
  if (!isBsp) {
    const waitsUntil = startedAt || input.until;
    if (waitsUntil > input.from) yield slice('waits for SIPI', 'state', enteredAt, waitsUntil);
    if (initAt > input.from) yield { ph: 'i', s: 't', name: 'INIT', ...lane, ts: micros(input, initAt) };
    if (sipiAt > input.from) yield { ph: 'i', s: 't', name: 'SIPI', ...lane, ts: micros(input, sipiAt) };
    if (initAt > input.from && sipiAt > 0) yield slice('INIT to SIPI', 'bring-up', initAt, sipiAt);
  }
  if (startedAt === 0) return;
  yield slice('running', 'state', startedAt, input.until);
  if (!isBsp && sipiAt > input.from && firstExit > sipiAt) {
    yield slice('SIPI to first exit', 'bring-up', sipiAt, firstExit);
    yield { ph: 'i', s: 't', name: 'online: first exit', ...lane, ts: micros(input, firstExit) };
  }
  for (let at = 0; at < exits.length; at += TRACE_EVENT.size) {
    const left = exits[at + TRACE_EVENT.left]!;
    if (left < input.from) continue;
    const next = exits[at + TRACE_EVENT.size + TRACE_EVENT.entered] ?? input.until;
    const what = exits[at + TRACE_EVENT.what]!;
    const [name, args] = describeExit(what, exits[at + TRACE_EVENT.detail]!, input.exitName);
    yield slice(name, 'exit', left, next, args);
  }
}

/** When the vCPU first left the guest by itself; 0: it did not. */
function firstExitOf({ exits }: TracedVcpu): number {
  for (let at = 0; at < exits.length; at += TRACE_EVENT.size)
    if (exits[at + TRACE_EVENT.what]! < TRACE_ERRNO) return exits[at + TRACE_EVENT.left]!;
  return 0;
}

function describeExit(
  what: number,
  detail: number,
  exitName: TraceInput['exitName'],
): [name: string, args?: TraceEvent['args']] {
  if (what === TRACE_ERRNO + EINTR) return ['kick'];
  if (what === TRACE_ERRNO + EAGAIN) return ['INIT received'];
  if (what >= TRACE_ERRNO) return [`errno ${what - TRACE_ERRNO}`];
  const name = exitName(what);
  if (what === EXIT_IO) {
    const direction = detail >= 0x1_0000 ? 'out' : 'in';
    return [`${name} ${direction} 0x${(detail % 0x1_0000).toString(16)}`, { reason: name }];
  }
  return what === EXIT_MMIO
    ? [`${name} 0x${detail.toString(16)}`, { reason: name }]
    : [name, { reason: name }];
}
