import { describe, expect, test } from 'bun:test';
import {
  formatMetrics,
  MetricsDelta,
  type MetricsInput,
} from '../../../../src/api/firecracker/model/metrics.ts';
import type { DeviceStatus, QueueStatus } from '../../../../src/virtio/host/status.ts';
import recorded from '../../../vectors/firecracker/metrics.json';

const queue = (index: number, counters: Partial<QueueStatus> = {}): QueueStatus => ({
  ...{ index, size: 256, maxSize: 256 },
  ...counters,
});

function device(kind: string, id: string, queues: readonly QueueStatus[] = [queue(0)]): DeviceStatus {
  const common = { address: 0, gsi: 0, state: 'running', failures: 0, features: [] } as const;
  return { id, kind, queues, ...common };
}

function input(devices: readonly DeviceStatus[]): MetricsInput {
  const zeros = { full_create_snapshot: 0, diff_create_snapshot: 0, load_snapshot: 0 };
  return {
    ...{ timestampMs: 1, id: undefined, properties: undefined, startupUs: { wall: 0, cpu: 0 } },
    ...{ counts: new Map(), missedLogs: 0, missedMetrics: 0, exits: {}, signals: {}, devices },
    latencies: { ...zeros, pause_vm: 0, resume_vm: 0 },
  };
}

type Line = Record<string, Record<string, unknown>>;
const line = (devices: readonly DeviceStatus[], delta = new MetricsDelta()) =>
  JSON.parse(formatMetrics(input(devices), delta)) as Line;

describe('a line of metrics', () => {
  test('has the groups and the counters that Firecracker prints, in its order', () => {
    // A microVM with a drive a, an interface n and persistent memory p.
    const printed = line([
      device('block', 'a'),
      device('net', 'n', [queue(0), queue(1)]),
      device('pmem', 'p'),
    ]);

    const groups = Object.entries(printed).map(([name, group]) => [
      name,
      typeof group === 'object' ? Object.keys(group) : [],
    ]);
    expect(Object.fromEntries(groups)).toEqual(recorded);
    expect(groups.map(([name]) => name)).toEqual(Object.keys(recorded));
  });

  test('counts what the queues of vsock, entropy and the balloon have moved since the last one', () => {
    const devices = (bytes: number) => [
      device('vsock', 'vsock', [
        queue(0, { chains: 2, kicks: 3, bytesToGuest: bytes }),
        queue(1, { chains: 4, kicks: 5, bytesFromGuest: 2 * bytes }),
      ]),
      device('entropy', 'entropy', [queue(0, { kicks: 6, bytesToGuest: bytes, interrupts: 7 })]),
      device('balloon', 'balloon', [
        queue(0, { chains: 8 }),
        queue(1, { chains: 9 }),
        queue(2, { chains: 10 }),
      ]),
    ];
    const delta = new MetricsDelta();

    const first = line(devices(100), delta);
    const second = line(devices(150), delta);

    expect(first['vsock']).toMatchObject({ rx_bytes_count: 100, tx_bytes_count: 200, tx_packets_count: 4 });
    expect(first['entropy']).toMatchObject({ entropy_event_count: 6, entropy_bytes: 100 });
    expect(first['balloon']).toMatchObject({ inflate_count: 8, deflate_count: 9, stats_updates_count: 10 });
    expect(first['interrupts']).toMatchObject({ triggers: 7 });
    expect(second['vsock']).toMatchObject({ rx_bytes_count: 50, tx_bytes_count: 100, tx_packets_count: 0 });
  });
});
