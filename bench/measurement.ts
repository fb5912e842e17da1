/** Measurements, and how several VMMs are measured side by side in one run. */
import { ratioOf, spreadOf, type Spread } from './statistics.ts';
import type { Vmm } from './vmms.ts';

export interface Measurement {
  readonly id: string;
  readonly title: string;
  /** How it is measured, in a sentence or two. */
  readonly method: string;
  /** Why an aim may be missed and what meeting it would take; printed when it is missed. */
  readonly whenMissed: string;
  run(context: Context): Promise<Findings>;
}

export interface Context {
  /** Volt first. */
  readonly vmms: readonly Vmm[];
  readonly quick: boolean;
  /** For guests and output; removed at the end. */
  readonly folder: string;
  readonly log: (line: string) => void;
}

export interface Findings {
  readonly comparisons: readonly Comparison[];
  readonly figures: readonly Figure[];
  /** What was not measured, and why. */
  readonly skipped: readonly string[];
  readonly chart?: LineChart;
}

/** Volt against one peer, lower being better. */
export interface Comparison {
  readonly what: string;
  readonly unit: string;
  readonly peer: string;
  readonly ours: Spread;
  readonly theirs: Spread;
  /** Volt's value divided by the peer's, round by round. */
  readonly ratio: Spread;
  /** Highest ratio that meets the aim. */
  readonly aim: number | undefined;
}

/** A number without a peer. */
export interface Figure {
  readonly what: string;
  readonly unit: string;
  readonly value: number;
  /** Highest value that meets the aim. */
  readonly aim: number | undefined;
}

export interface LineChart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly lines: readonly {
    readonly name: string;
    readonly points: readonly (readonly [number, number])[];
  }[];
}

export interface Subject<T> {
  readonly name: string;
  run(): Promise<T>;
}

export interface Samples<T> {
  /** Samples by subject, equally many for each. A subject whose first run failed is left out. */
  readonly bySubject: ReadonlyMap<string, readonly T[]>;
  readonly skipped: readonly string[];
}

/**
 * Runs all subjects once as a warm-up, then in turn, reversing the order every round. A peer whose first run fails
 * is left out, with the reason; any other failure throws.
 */
export async function measureInTurns<T>(
  subjects: readonly Subject<T>[],
  rounds: number,
): Promise<Samples<T>> {
  const skipped: string[] = [];
  const able: Subject<T>[] = [];
  for (const [i, subject] of subjects.entries()) {
    try {
      await subject.run();
      able.push(subject);
    } catch (error) {
      if (i === 0) throw error;
      skipped.push(`${subject.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const bySubject = new Map(able.map(({ name }) => [name, [] as T[]]));
  for (let round = 0; round < rounds; round++) {
    for (const subject of round % 2 === 0 ? able : able.toReversed()) {
      bySubject.get(subject.name)!.push(await subject.run());
    }
  }
  return { bySubject, skipped };
}

/** The first subject against every other one, by one number of each sample. */
export function compareFirst<T>(
  { bySubject }: Samples<T>,
  what: string,
  unit: string,
  pick: (sample: T) => number,
  aim?: (peer: string) => number | undefined,
): Comparison[] {
  const [first, ...peers] = [...bySubject].map(([name, samples]) => ({ name, values: samples.map(pick) }));
  return peers.map(({ name, values }) => ({
    what,
    unit,
    peer: name,
    ours: spreadOf(first!.values),
    theirs: spreadOf(values),
    ratio: ratioOf(first!.values, values),
    aim: aim?.(name),
  }));
}
