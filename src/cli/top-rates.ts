/** What `volt top` shows: the difference of two looks at the same vCPUs. Pure. */
import type { ControlResult } from '../api/index.ts';

export type Vcpus = ControlResult<'vcpus'>;

export interface Look {
  readonly vcpus: Vcpus;
  /** When the answer came, in milliseconds of any clock that does not jump. */
  readonly atMs: number;
}

export interface VcpuRates {
  readonly index: number;
  readonly state: string;
  readonly mpState?: string;
  readonly sipiVector?: number;
  readonly hostCpu?: number;
  /** Percent of one host CPU. */
  readonly cpuPercent?: number;
  /** Percent of the time in which it was ready to run and had no host CPU. */
  readonly stealPercent?: number;
  readonly exitsPerSecond: number;
  /** By KVM's reason, the most frequent first; those that did not happen are left out. */
  readonly exits: Readonly<Record<string, number>>;
  readonly rip?: string;
  readonly symbol?: string;
}

/** Counters of exits are 32 bits wide and start again at 0. */
const COUNTER_SPAN = 2 ** 32;
const NS_PER_MS = 1e6;

export function ratesBetween(before: Look, after: Look): VcpuRates[] {
  const ms = Math.max(after.atMs - before.atMs, 1);
  return after.vcpus.map((vcpu) => {
    const earlier = before.vcpus.find(({ index }) => index === vcpu.index);
    const exits = exitRates(earlier?.exits ?? {}, vcpu.exits, ms);
    const cpuPercent = percent(earlier?.runtimeNs, vcpu.runtimeNs, ms);
    const stealPercent = percent(earlier?.waitNs, vcpu.waitNs, ms);
    const { index, state, mpState, sipiVector, hostCpu, rip, symbol } = vcpu;
    return {
      index,
      state,
      ...(mpState === undefined ? {} : { mpState }),
      ...(sipiVector === undefined ? {} : { sipiVector }),
      ...(hostCpu === undefined ? {} : { hostCpu }),
      ...(cpuPercent === undefined ? {} : { cpuPercent }),
      ...(stealPercent === undefined ? {} : { stealPercent }),
      exitsPerSecond: round(Object.values(exits).reduce((sum, rate) => sum + rate, 0)),
      exits,
      ...(rip === undefined ? {} : { rip }),
      ...(symbol === undefined ? {} : { symbol }),
    };
  });
}

function exitRates(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
  ms: number,
): Record<string, number> {
  const rates = Object.entries(after).map(([reason, count]) => {
    const more = (count - (before[reason] ?? 0) + COUNTER_SPAN) % COUNTER_SPAN;
    return [reason, round((more * 1000) / ms)] as const;
  });
  return Object.fromEntries(rates.filter(([, rate]) => rate > 0).sort(([, a], [, b]) => b - a));
}

/** undefined where one of the looks does not know. A thread that was made anew starts again at 0. */
function percent(before: number | undefined, after: number | undefined, ms: number): number | undefined {
  if (before === undefined || after === undefined) return undefined;
  return round((Math.max(0, after - before) * 100) / (ms * NS_PER_MS));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
