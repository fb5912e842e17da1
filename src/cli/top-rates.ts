/** Rates for `volt top`: the difference of two samples of the same vCPUs. Pure. */
import type { ControlResult } from '../api/index.ts';

export type Vcpus = ControlResult<'vcpus'>;

export interface Look {
  readonly vcpus: Vcpus;
  /** Time of the answer, in milliseconds on a monotonic clock. */
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
  /** Percent of the time in which the thread was ready to run and had no host CPU. */
  readonly stealPercent?: number;
  readonly exitsPerSecond: number;
  /** By KVM's exit reason, the most frequent first; reasons without exits are left out. */
  readonly exits: Readonly<Record<string, number>>;
  readonly rip?: string;
  readonly symbol?: string;
}

/** Exit counters are 32 bits wide and wrap around. */
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

/** undefined if a sample has no value. The time of a new thread starts at 0. */
function percent(before: number | undefined, after: number | undefined, ms: number): number | undefined {
  if (before === undefined || after === undefined) return undefined;
  return round((Math.max(0, after - before) * 100) / (ms * NS_PER_MS));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
