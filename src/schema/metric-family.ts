/** A family of the OpenMetrics data model. (prometheus/OpenMetrics, specification, "Data Model") */

export interface Sample {
  /** Behind the family's name: `_total` for counters, `_info` for infos, nothing for gauges. */
  readonly labels?: Readonly<Record<string, string | number>>;
  readonly value: number;
}

export interface MetricFamily {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'info';
  /** The name must end with it. */
  readonly unit?: 'seconds' | 'bytes';
  readonly help: string;
  readonly samples: readonly Sample[];
}
