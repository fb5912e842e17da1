/** What has been changed of running devices, and their configuration with it. Pure. */
import { isSection } from '../../schema/values.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { LimitChange, TokenBucketConfig } from '../transport/rate-limiter.ts';
import { SPECS, type DeviceKind } from './specs.ts';

/** The sections of a configuration. */
export type Sections = Readonly<Record<string, unknown>>;

/** Keys of a device's section or item that have another value by now. */
export interface ChangedSettings {
  readonly rate_limiter?: LimitChange;
  readonly rx_rate_limiter?: LimitChange;
  readonly tx_rate_limiter?: LimitChange;
  readonly stats_polling_interval_s?: number;
  readonly path_on_host?: string;
}

export interface ChangedDevice {
  readonly kind: DeviceKind;
  readonly id: string;
  readonly settings: ChangedSettings;
}

/** `settings` after one more change that the device has made. A disk's new file is noted by its path. */
export function noteChange(settings: ChangedSettings, change: DeviceChange): ChangedSettings {
  switch (change.kind) {
    case 'limits':
      return { ...settings, rate_limiter: mergeLimits(settings.rate_limiter, change.limits) };
    case 'net-limits':
      return {
        ...settings,
        rx_rate_limiter: mergeLimits(settings.rx_rate_limiter, change.receive),
        tx_rate_limiter: mergeLimits(settings.tx_rate_limiter, change.transmit),
      };
    case 'balloon-polling':
      return { ...settings, stats_polling_interval_s: change.seconds };
    case 'disk-file':
      return settings;
  }
}

function mergeLimits(before: LimitChange | undefined, { bandwidth, ops }: LimitChange): LimitChange {
  return {
    ...before,
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(ops === undefined ? {} : { ops }),
  };
}

/** `input` with the settings that these devices have by now. */
export function withChangedSettings(input: Sections, devices: readonly ChangedDevice[]): Sections {
  const changed: Record<string, unknown> = { ...input };
  for (const { kind, id, settings } of devices) {
    const { section, isList, hostSide } = SPECS[kind];
    const content = changed[section];
    const change = (item: Sections): Sections => ({ ...item, ...settingsOf(item, settings) });
    const isMeant = (item: unknown) => !isList || (isSection(item) && item[hostSide!.idKey!] === id);
    const changeOne = (item: unknown) => (isSection(item) && isMeant(item) ? change(item) : item);
    changed[section] = Array.isArray(content) ? content.map(changeOne) : changeOne(content);
  }
  return changed;
}

function settingsOf(item: Sections, settings: ChangedSettings): Sections {
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [
      key,
      typeof value === 'object' ? limiterOf(item[key], value as LimitChange) : value,
    ]),
  );
}

/** A `rate_limiter` as a configuration has it; null is no limit. */
function limiterOf(before: unknown, { bandwidth, ops }: LimitChange): Sections {
  return {
    ...(isSection(before) ? before : {}),
    ...(bandwidth === undefined ? {} : { bandwidth: bucketOf(bandwidth) }),
    ...(ops === undefined ? {} : { ops: bucketOf(ops) }),
  };
}

function bucketOf(bucket: TokenBucketConfig | null): Sections | null {
  return bucket && { size: bucket.size, one_time_burst: bucket.burst, refill_time: bucket.refillMs };
}
