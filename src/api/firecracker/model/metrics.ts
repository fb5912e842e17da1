/**
 * One line of metrics in Firecracker's format. Counts of devices come from Volt's queues; what Volt does not count is 0,
 * as docs/firecracker.md lists. (firecracker-microvm/firecracker, src/vmm/src/logger/metrics.rs)
 */
import { formatOutput, type Output } from '../../../json/output.ts';
import { API_COUNTERS, type ApiCounter } from '../request/counters.ts';
import type { DeviceStatus } from '../../../virtio/host/status.ts';

export interface LatencyNames {
  full_create_snapshot: number;
  diff_create_snapshot: number;
  load_snapshot: number;
  pause_vm: number;
  resume_vm: number;
}

export interface MetricsInput {
  readonly timestampMs: number;
  readonly id: string | undefined;
  readonly properties: Readonly<Record<string, string>> | undefined;
  readonly startupUs: { readonly wall: number; readonly cpu: number };
  readonly counts: ReadonlyMap<ApiCounter, number>;
  readonly latencies: LatencyNames;
  readonly missedLogs: number;
  readonly missedMetrics: number;
  readonly devices: readonly DeviceStatus[];
  /** Exits of all vCPUs since the start, by KVM's reason. */
  readonly exits: Readonly<Record<string, number>>;
  /** Signals that this process got, by Firecracker's names. */
  readonly signals: Readonly<Partial<Record<SignalCounter, number>>>;
}

/** Counters that appear once for each device and once for all of a kind; `count` reads one of a device. */
type Counters = Readonly<Record<string, ((device: DeviceStatus) => number) | 0 | 'agg'>>;

const sum = (device: DeviceStatus, pick: (queue: DeviceStatus['queues'][number]) => number | undefined) =>
  device.queues.reduce((total, queue) => total + (pick(queue) ?? 0), 0);
const ofQueues =
  (odd: boolean, pick: (queue: DeviceStatus['queues'][number]) => number | undefined) =>
  (device: DeviceStatus) =>
    sum(device, (queue) => (queue.index % 2 === Number(odd) ? pick(queue) : 0));

const BLOCK: Counters = {
  activate_fails: 0,
  cfg_fails: 0,
  no_avail_buffer: 0,
  event_fails: ({ failures }) => failures,
  execute_fails: (device) => sum(device, ({ errors }) => errors),
  invalid_reqs_count: 0,
  flush_count: 0,
  queue_event_count: (device) => sum(device, ({ kicks }) => kicks),
  rate_limiter_event_count: 0,
  update_count: 0,
  update_fails: 0,
  read_bytes: (device) => sum(device, ({ bytesToGuest }) => bytesToGuest),
  write_bytes: (device) => sum(device, ({ bytesFromGuest }) => bytesFromGuest),
  read_count: 0,
  write_count: 0,
  read_agg: 'agg',
  write_agg: 'agg',
  rate_limiter_throttled_events: 0,
  io_engine_throttled_events: 0,
  remaining_reqs_count: 0,
};
const RECEIVE = { odd: false, transmit: true } as const;
const NET: Counters = {
  activate_fails: 0,
  cfg_fails: 0,
  no_rx_avail_buffer: 0,
  no_tx_avail_buffer: 0,
  event_fails: ({ failures }) => failures,
  rx_queue_event_count: ofQueues(RECEIVE.odd, ({ kicks }) => kicks),
  rx_event_rate_limiter_count: 0,
  rx_rate_limiter_throttled: 0,
  rx_tap_event_count: 0,
  rx_bytes_count: ofQueues(RECEIVE.odd, ({ bytesToGuest }) => bytesToGuest),
  rx_packets_count: ofQueues(RECEIVE.odd, ({ chains }) => chains),
  rx_fails: ofQueues(RECEIVE.odd, ({ errors }) => errors),
  rx_count: ofQueues(RECEIVE.odd, ({ chains }) => chains),
  tap_read_fails: 0,
  tap_write_fails: 0,
  tap_write_agg: 'agg',
  tx_bytes_count: ofQueues(RECEIVE.transmit, ({ bytesFromGuest }) => bytesFromGuest),
  tx_malformed_frames: 0,
  tx_fails: ofQueues(RECEIVE.transmit, ({ errors }) => errors),
  tx_count: ofQueues(RECEIVE.transmit, ({ chains }) => chains),
  tx_packets_count: ofQueues(RECEIVE.transmit, ({ chains }) => chains),
  tx_queue_event_count: ofQueues(RECEIVE.transmit, ({ kicks }) => kicks),
  tx_rate_limiter_event_count: 0,
  tx_rate_limiter_throttled: 0,
  tx_spoofed_mac_count: 0,
  tx_remaining_reqs_count: 0,
};
const PMEM: Counters = {
  activate_fails: 0,
  cfg_fails: 0,
  event_fails: ({ failures }) => failures,
  queue_event_count: (device) => sum(device, ({ kicks }) => kicks),
  rate_limiter_throttled_events: 0,
  rate_limiter_event_count: 0,
};

const ofQueue =
  (index: number, pick: (queue: DeviceStatus['queues'][number]) => number | undefined) =>
  ({ queues }: DeviceStatus) =>
    pick(queues[index] ?? NO_QUEUE) ?? 0;
const NO_QUEUE: DeviceStatus['queues'][number] = { index: 0, size: 0, maxSize: 0 };
const interruptsOf = (device: DeviceStatus) => sum(device, ({ interrupts }) => interrupts);

/** Queues: inflate, deflate, statistics. (virtio 1.2 §5.5.2) */
const BALLOON: Counters = {
  activate_fails: 0,
  inflate_count: ofQueue(0, ({ chains }) => chains),
  stats_updates_count: ofQueue(2, ({ chains }) => chains),
  stats_update_fails: 0,
  deflate_count: ofQueue(1, ({ chains }) => chains),
  event_fails: ({ failures }) => failures,
  free_page_report_count: 0,
  free_page_report_freed: 0,
  free_page_report_fails: 0,
  free_page_hint_count: 0,
  free_page_hint_freed: 0,
  free_page_hint_fails: 0,
};
/** Queues: to the guest, from it, events. (virtio 1.2 §5.10.2) */
const VSOCK: Counters = {
  activate_fails: 0,
  cfg_fails: 0,
  rx_queue_event_fails: 0,
  tx_queue_event_fails: 0,
  ev_queue_event_fails: 0,
  muxer_event_fails: 0,
  conn_event_fails: 0,
  rx_queue_event_count: ofQueue(0, ({ kicks }) => kicks),
  tx_queue_event_count: ofQueue(1, ({ kicks }) => kicks),
  rx_bytes_count: ofQueue(0, ({ bytesToGuest }) => bytesToGuest),
  tx_bytes_count: ofQueue(1, ({ bytesFromGuest }) => bytesFromGuest),
  rx_packets_count: ofQueue(0, ({ chains }) => chains),
  tx_packets_count: ofQueue(1, ({ chains }) => chains),
  conns_added: 0,
  conns_killed: 0,
  conns_removed: 0,
  killq_resync: 0,
  tx_flush_fails: 0,
  tx_write_fails: 0,
  rx_read_fails: 0,
};
const ENTROPY: Counters = {
  activate_fails: 0,
  entropy_event_fails: ({ failures }) => failures,
  entropy_event_count: (device) => sum(device, ({ kicks }) => kicks),
  entropy_bytes: (device) => sum(device, ({ bytesToGuest }) => bytesToGuest),
  host_rng_fails: 0,
  entropy_rate_limiter_throttled: 0,
  rate_limiter_event_count: 0,
};
const MEMORY_HOTPLUG: Counters = {
  activate_fails: 0,
  queue_event_fails: 0,
  queue_event_count: (device) => sum(device, ({ kicks }) => kicks),
  plug_agg: 'agg',
  plug_count: 0,
  plug_bytes: 0,
  plug_fails: 0,
  unplug_agg: 'agg',
  unplug_count: 0,
  unplug_bytes: 0,
  unplug_fails: 0,
  unplug_discard_fails: 0,
  unplug_all_agg: 'agg',
  unplug_all_count: 0,
  unplug_all_fails: 0,
  state_agg: 'agg',
  state_count: 0,
  state_fails: 0,
};

const SIGNALS = ['sigbus', 'sigsegv', 'sigxfsz', 'sigxcpu', 'sigpipe', 'sighup', 'sigill'] as const;
export type SignalCounter = (typeof SIGNALS)[number];
const AGGREGATE = { min_us: 0, max_us: 0, sum_us: 0 };

/** The difference to the last line, as Firecracker writes most of its counters. */
export class MetricsDelta {
  readonly #last = new Map<string, number>();

  take(name: string, total: number): number {
    const before = this.#last.get(name) ?? 0;
    this.#last.set(name, total);
    return total - before;
  }
}

export function formatMetrics(input: MetricsInput, delta: MetricsDelta): string {
  const { devices, exits, latencies, counts } = input;
  const group = (name: keyof typeof API_COUNTERS): Output =>
    Object.fromEntries(
      API_COUNTERS[name].map((counter) => {
        const key = `${name}.${counter}` as ApiCounter;
        return [counter, delta.take(key, counts.get(key) ?? 0)];
      }),
    );
  const exit = (reason: string) => delta.take(`vcpu.${reason}`, exits[reason] ?? 0);
  const line: Output = {
    utc_timestamp_ms: input.timestampMs,
    id: input.id,
    properties: input.properties,
    api_server: {
      process_startup_time_us: input.startupUs.wall,
      process_startup_time_cpu_us: input.startupUs.cpu,
    },
    balloon: ofAll('balloon', BALLOON, devices, delta),
    ...ofKind('block', BLOCK, devices, delta),
    deprecated_api: group('deprecated_api'),
    get_api_requests: group('get_api_requests'),
    i8042: zeros('error_count missed_read_count missed_write_count read_count reset_count write_count'),
    uart: zeros(
      'error_count flush_count missed_read_count missed_write_count read_count write_count rate_limiter_dropped_bytes',
    ),
    latencies_us: {
      ...latencies,
      vmm_full_create_snapshot: latencies.full_create_snapshot,
      vmm_diff_create_snapshot: latencies.diff_create_snapshot,
      vmm_load_snapshot: latencies.load_snapshot,
      vmm_pause_vm: latencies.pause_vm,
      vmm_resume_vm: latencies.resume_vm,
    },
    logger: {
      missed_metrics_count: input.missedMetrics,
      metrics_fails: 0,
      missed_log_count: input.missedLogs,
      rate_limited_log_count: 0,
    },
    mmds: zeros(
      'rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_invalid_token rx_no_token rx_count tx_bytes tx_count tx_errors tx_frames connections_created connections_destroyed',
    ),
    ...ofKind('net', NET, devices, delta),
    patch_api_requests: group('patch_api_requests'),
    put_api_requests: group('put_api_requests'),
    seccomp: { num_faults: 0 },
    vcpu: {
      exit_io_in: 0,
      exit_io_out: exit('io'),
      exit_mmio_read: 0,
      exit_mmio_write: exit('mmio'),
      failures: 0,
      kvmclock_ctrl_fails: 0,
      exit_io_in_agg: AGGREGATE,
      exit_io_out_agg: AGGREGATE,
      exit_mmio_read_agg: AGGREGATE,
      exit_mmio_write_agg: AGGREGATE,
    },
    vmm: { panic_count: 0 },
    signals: Object.fromEntries(
      SIGNALS.map((name) => [name, delta.take(`signals.${name}`, input.signals[name] ?? 0)]),
    ),
    vsock: ofAll('vsock', VSOCK, devices, delta),
    entropy: ofAll('entropy', ENTROPY, devices, delta),
    ...ofKind('pmem', PMEM, devices, delta),
    interrupts: {
      triggers: delta.take(
        'interrupts',
        devices.reduce((total, each) => total + interruptsOf(each), 0),
      ),
      config_updates: 0,
    },
    memory_hotplug: ofAll('mem', MEMORY_HOTPLUG, devices, delta),
  };
  return `${formatOutput(line)}\n`;
}

function zeros(names: string): Output {
  return Object.fromEntries(names.split(' ').map((name) => [name, 0]));
}

/** The sum of all devices of a kind. */
function ofAll(
  kind: string,
  counters: Counters,
  all: readonly DeviceStatus[],
  delta: MetricsDelta,
): Record<string, Output> {
  const devices = all.filter((device) => device.kind === kind);
  const values = Object.entries(counters).map(([name, count]) => {
    if (count === 'agg') return [name, AGGREGATE] as const;
    const total = count === 0 ? 0 : devices.reduce((sumOf, device) => sumOf + count(device), 0);
    return [name, delta.take(`${kind}.${name}`, total)] as const;
  });
  return Object.fromEntries(values);
}

/** `block_ID` for each device of a kind, and their sum as `block`. */
function ofKind(
  kind: string,
  counters: Counters,
  all: readonly DeviceStatus[],
  delta: MetricsDelta,
): Record<string, Output> {
  const devices = all.filter((device) => device.kind === kind);
  const rows = devices.map((device) => {
    const values = Object.entries(counters).map(([name, count]) => {
      if (count === 'agg') return [name, AGGREGATE] as const;
      const total = count === 0 ? 0 : count(device);
      return [name, delta.take(`${kind}_${device.id}.${name}`, total)] as const;
    });
    return [`${kind}_${device.id}`, Object.fromEntries(values)] as const;
  });
  const total = Object.entries(counters).map(([name, count]) => {
    if (count === 'agg') return [name, AGGREGATE] as const;
    return [name, rows.reduce((sumOf, [, values]) => sumOf + Number(values[name]), 0)] as const;
  });
  return { ...Object.fromEntries(rows), [kind]: Object.fromEntries(total) };
}
