import { describe, expect, test } from 'bun:test';
import { quantile, ratioOf, spreadOf } from '../../../bench/statistics.ts';

describe('a spread', () => {
  test('is the median and the quartiles, whatever the order', () => {
    expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 2, high: 4, count: 5 });
  });

  test('lies between two samples where no sample is in the middle', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([10, 20], 0.9)).toBeCloseTo(19);
  });

  test('of a ratio pairs the rounds, so that a slow round of both does not count', () => {
    expect(ratioOf([1, 100, 2], [2, 200, 4])).toEqual({ median: 0.5, low: 0.5, high: 0.5, count: 3 });
  });

  test('of nothing, or of rounds that have no partner, is refused', () => {
    expect(() => spreadOf([])).toThrow('Cannot take a quantile: no samples (expected at least one)');
    expect(() => ratioOf([1], [])).toThrow('Cannot pair 1 samples with 0 (expected as many)');
  });
});
