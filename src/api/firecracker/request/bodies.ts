/**
 * Bodies of requests and sections of configuration files, as Firecracker 1.17 defines them. The order of fields is that of
 * its structures: it is the order of names in errors, and of values where a body is a list.
 * (firecracker-microvm/firecracker, src/firecracker/swagger/firecracker.yaml and src/vmm/src/vmm_config)
 */
import { JsonFault } from '../../../json/reader.ts';
import {
  bool,
  checkedString,
  ipv4,
  list,
  option,
  path,
  sortedMap,
  string,
  struct,
  u16,
  u32,
  u64,
  u8,
  usize,
  variants,
  withDefault,
  type Shape,
  type ValueOf,
} from '../../../json/shapes.ts';

const isFalse = () => false;

const TokenBucket = struct(
  'TokenBucketConfig',
  { size: u64, one_time_burst: option(u64), refill_time: u64 },
  { open: true },
);
const RateLimiter = struct('RateLimiterConfig', {
  bandwidth: option(TokenBucket),
  ops: option(TokenBucket),
});
export type TokenBucketBody = ValueOf<typeof TokenBucket>;
export type RateLimiterBody = ValueOf<typeof RateLimiter>;

export const Action = struct('ActionBody', {
  action_type: variants(['FlushMetrics', 'InstanceStart', 'SendCtrlAltDel']),
});

export const Balloon = struct('BalloonDeviceConfig', {
  amount_mib: u32,
  deflate_on_oom: bool,
  stats_polling_interval_s: withDefault(u16, () => 0),
  free_page_hinting: withDefault(bool, isFalse),
  free_page_reporting: withDefault(bool, isFalse),
});
export type BalloonBody = ValueOf<typeof Balloon>;
export const BalloonUpdate = struct('BalloonUpdateConfig', { amount_mib: u32 });
export const BalloonStatsUpdate = struct('BalloonUpdateStatsConfig', { stats_polling_interval_s: u16 });
export const StartHinting = struct(
  'StartHintingCmd',
  { acknowledge_on_stop: withDefault(bool, () => true) },
  { open: true },
);

export const BootSource = struct('BootSourceConfig', {
  kernel_image_path: string,
  initrd_path: option(string),
  boot_args: option(string),
});
export type BootSourceBody = ValueOf<typeof BootSource>;

const CacheType = variants(['Unsafe', 'Writeback']);
const IoEngine = variants(['Async', 'Sync']);
export const Drive = struct('BlockDeviceConfig', {
  drive_id: string,
  partuuid: option(string),
  is_root_device: bool,
  cache_type: withDefault(CacheType, () => 'Unsafe' as const),
  is_read_only: option(bool),
  path_on_host: option(string),
  rate_limiter: option(RateLimiter),
  io_engine: option(IoEngine),
  socket: option(string),
});
export type DriveBody = ValueOf<typeof Drive>;
export const DriveUpdate = struct('BlockDeviceUpdateConfig', {
  drive_id: string,
  path_on_host: option(string),
  rate_limiter: option(RateLimiter),
});
export type DriveUpdateBody = ValueOf<typeof DriveUpdate>;

export const Pmem = struct('PmemConfig', {
  id: string,
  path_on_host: string,
  root_device: withDefault(bool, isFalse),
  read_only: withDefault(bool, isFalse),
  rate_limiter: option(RateLimiter),
});
export type PmemBody = ValueOf<typeof Pmem>;
export const PmemUpdate = struct('PmemDeviceUpdateConfig', { id: string, rate_limiter: option(RateLimiter) });
export type PmemUpdateBody = ValueOf<typeof PmemUpdate>;

/** Levels by every name that Firecracker takes. */
const LEVELS = {
  off: 'Off',
  trace: 'Trace',
  debug: 'Debug',
  info: 'Info',
  warn: 'Warn',
  warning: 'Warn',
  error: 'Error',
} as const;
export type LogLevel = (typeof LEVELS)[keyof typeof LEVELS];

/** The level of this name, whatever its case. */
export function logLevel(name: string): LogLevel | undefined {
  const key = name.toLowerCase();
  return Object.hasOwn(LEVELS, key) ? LEVELS[key as keyof typeof LEVELS] : undefined;
}

export const Logger = struct('LoggerConfig', {
  log_path: option(path),
  level: option(
    checkedString((name): LogLevel => {
      const level = logLevel(name);
      if (level === undefined) throw new JsonFault('Invalid LevelFilter');
      return level;
    }),
  ),
  show_level: option(bool),
  show_log_origin: option(bool),
  module: option(string),
});
export type LoggerBody = ValueOf<typeof Logger>;

const CPU_TEMPLATES = ['C3', 'T2', 'T2S', 'None', 'T2CL', 'T2A'] as const;
const StaticTemplate = variants(CPU_TEMPLATES);
export type StaticTemplateName = Exclude<(typeof CPU_TEMPLATES)[number], 'None'>;
const HugePages = variants(['None', 'Transparent', '2M']);
export type HugePagesName = ValueOf<typeof HugePages>;

export const MachineConfig = struct('MachineConfig', {
  vcpu_count: u8,
  mem_size_mib: usize,
  smt: withDefault(bool, isFalse),
  cpu_template: withDefault(option(StaticTemplate), () => null),
  track_dirty_pages: withDefault(bool, isFalse),
  huge_pages: withDefault(HugePages, () => 'None' as const),
});
const optionalOf = <T>(shape: Shape<T>) => withDefault(option(shape), () => null);
export const MachineConfigUpdate = struct('MachineConfigUpdate', {
  vcpu_count: optionalOf(u8),
  mem_size_mib: optionalOf(usize),
  smt: optionalOf(bool),
  cpu_template: optionalOf(StaticTemplate),
  track_dirty_pages: optionalOf(bool),
  huge_pages: optionalOf(HugePages),
});
export type MachineConfigUpdateBody = ValueOf<typeof MachineConfigUpdate>;

export const Metrics = struct(
  'MetricsConfig',
  {
    metrics_path: path,
    emit_id: withDefault(bool, isFalse),
    properties: withDefault(option(sortedMap(string)), () => null),
  },
  { open: true },
);
export type MetricsBody = ValueOf<typeof Metrics>;

export const MmdsConfig = struct('MmdsConfig', {
  version: withDefault(variants(['V1', 'V2']), () => 'V1' as const),
  network_interfaces: list(string),
  ipv4_address: option(ipv4),
  imds_compat: withDefault(bool, isFalse),
});
export type MmdsConfigBody = ValueOf<typeof MmdsConfig>;

export const Entropy = struct('EntropyDeviceConfig', { rate_limiter: option(RateLimiter) });
export type EntropyBody = ValueOf<typeof Entropy>;

export const Serial = struct('SerialConfig', {
  serial_out_path: option(path),
  rate_limiter: option(TokenBucket),
});
export type SerialBody = ValueOf<typeof Serial>;

export const MemoryHotplug = struct('MemoryHotplugConfig', {
  total_size_mib: u32,
  block_size_mib: withDefault(u32, () => 2),
  slot_size_mib: withDefault(u32, () => 128),
});
export type MemoryHotplugBody = ValueOf<typeof MemoryHotplug>;
export const MemoryHotplugUpdate = struct('MemoryHotplugSizeUpdate', { requested_size_mib: u32 });

const MacAddress = checkedString((text) => {
  if (/^(?:[\da-fA-F]{2}:){5}[\da-fA-F]{2}$/.test(text)) return text.toLowerCase();
  throw new JsonFault('The provided MAC address is invalid.');
});
export const NetworkInterface = struct('NetworkInterfaceConfig', {
  iface_id: string,
  host_dev_name: string,
  guest_mac: option(MacAddress),
  mtu: option(u16),
  rx_rate_limiter: option(RateLimiter),
  tx_rate_limiter: option(RateLimiter),
});
export type NetworkInterfaceBody = ValueOf<typeof NetworkInterface>;
export const NetworkInterfaceUpdate = struct('NetworkInterfaceUpdateConfig', {
  iface_id: string,
  rx_rate_limiter: option(RateLimiter),
  tx_rate_limiter: option(RateLimiter),
});
export type NetworkInterfaceUpdateBody = ValueOf<typeof NetworkInterfaceUpdate>;

export const SnapshotCreate = struct('CreateSnapshotParams', {
  snapshot_type: withDefault(variants(['Diff', 'Full']), () => 'Full' as const),
  snapshot_path: path,
  mem_file_path: path,
});
export type SnapshotCreateBody = ValueOf<typeof SnapshotCreate>;

const MemoryBackend = struct('MemBackendConfig', {
  backend_path: path,
  backend_type: variants(['File', 'Uffd']),
});
export const SnapshotLoad = struct('LoadSnapshotConfig', {
  snapshot_path: path,
  mem_file_path: option(path),
  mem_backend: option(MemoryBackend),
  enable_diff_snapshots: withDefault(bool, isFalse),
  track_dirty_pages: withDefault(bool, isFalse),
  resume_vm: withDefault(bool, isFalse),
  network_overrides: withDefault(
    list(struct('NetworkOverride', { iface_id: string, host_dev_name: string }, { open: true })),
    () => [],
  ),
  vsock_override: option(struct('VsockOverride', { uds_path: string }, { open: true })),
  clock_realtime: withDefault(bool, isFalse),
  huge_pages: withDefault(variants(['Snapshot', 'None', 'Transparent', '2M']), () => 'Snapshot' as const),
});
type SnapshotLoadRequest = ValueOf<typeof SnapshotLoad>;
/** What a request to load a snapshot comes to. */
export interface SnapshotLoadBody extends Omit<
  SnapshotLoadRequest,
  'mem_file_path' | 'mem_backend' | 'enable_diff_snapshots'
> {
  readonly mem_backend: ValueOf<typeof MemoryBackend>;
}

export const Vm = struct('Vm', { state: variants(['Paused', 'Resumed']) });

export const Vsock = struct('VsockDeviceConfig', {
  vsock_id: withDefault(option(string), () => null),
  guest_cid: u32,
  uds_path: string,
});
export type VsockBody = ValueOf<typeof Vsock>;
