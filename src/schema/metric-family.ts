/** A family of the OpenMetrics data model. (prometheus/OpenMetrics, specification, "Data Model") */

export interface Sample {
  /** The sample's name is the family's with the suffix `_total` (counter), `_info` (info) or none (gauge). */
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
