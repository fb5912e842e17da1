/** Medians and quartiles, which are robust against noise. */

/** The middle of some samples and the range of their middle half. */
export interface Spread {
  readonly median: number;
  /** First and third quartile. */
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/** Throws when there is no sample. */
export function spreadOf(samples: readonly number[]): Spread {
  return {
    median: quantile(samples, 0.5),
    low: quantile(samples, 0.25),
    high: quantile(samples, 0.75),
    count: samples.length,
  };
}

/** Linear interpolation between the two nearest ranks. Throws when there is no sample. */
export function quantile(samples: readonly number[], fraction: number): number {
  if (samples.length === 0) throw new Error('Cannot take a quantile: no samples (expected at least one)');
  const sorted = samples.toSorted((a, b) => a - b);
  const rank = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(rank)]!;
  return below + (sorted[Math.ceil(rank)]! - below) * (rank - Math.floor(rank));
}

/** Ratios of samples of the same round: whatever slowed down both cancels out. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): Spread {
  if (ours.length !== theirs.length) {
    throw new Error(`Cannot pair ${ours.length} samples with ${theirs.length} (expected as many)`);
  }
  return spreadOf(ours.map((value, i) => value / theirs[i]!));
}
