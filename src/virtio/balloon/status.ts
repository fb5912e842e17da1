/** Status of a running balloon, and its metrics. */
import { MIB } from '../../machine/address.ts';
import type { MetricFamily } from '../../schema/metric-family.ts';

/** A balloon's size, and the guest's memory statistics. */
export interface BalloonStatus {
  readonly wantedMib: number;
  readonly actualMib: number;
  /** Released since the start: by inflation, and by free page reporting. */
  readonly inflatedBytes: number;
  readonly reportedBytes: number;
  /** Bytes and counts, by Firecracker's names; empty without statistics. */
  readonly stats: Readonly<Record<string, number>>;
}

export function balloonMetrics(balloon: BalloonStatus): MetricFamily[] {
  const gauge = (name: string, help: string, value: number): MetricFamily => ({
    name,
    type: 'gauge',
    unit: 'bytes',
    help,
    samples: [{ value }],
  });
  return [
    gauge(
      'volt_balloon_wanted_bytes',
      'Memory that the guest is asked to give back.',
      balloon.wantedMib * MIB,
    ),
    gauge(
      'volt_balloon_actual_bytes',
      'Memory that the guest has given back by its balloon.',
      balloon.actualMib * MIB,
    ),
    {
      name: 'volt_balloon_released_bytes',
      type: 'counter',
      unit: 'bytes',
      help: 'Memory that went back to the host since the start, by the balloon and by free pages that the guest reported.',
      samples: [
        { labels: { by: 'balloon' }, value: balloon.inflatedBytes },
        { labels: { by: 'report' }, value: balloon.reportedBytes },
      ],
    },
  ];
}
