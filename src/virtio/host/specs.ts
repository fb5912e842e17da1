/** The `spec` of each device kind, in slot order. */
import type { OptionalDevice } from '../../sandbox/optional-devices.ts';
import { BALLOON } from '../balloon/spec.ts';
import { BLOCK } from '../block/spec.ts';
import { CONSOLE } from '../console/spec.ts';
import { ENTROPY } from '../entropy/spec.ts';
import { MEM } from '../mem/spec.ts';
import { NET } from '../net/spec.ts';
import { PMEM } from '../pmem/spec.ts';
import { SHARE } from '../share/spec.ts';
import { VSOCK } from '../vsock/spec.ts';
import type { DeviceSpec } from './device-spec.ts';

const specs = {
  block: BLOCK,
  pmem: PMEM,
  net: NET,
  share: SHARE,
  vsock: VSOCK,
  console: CONSOLE,
  balloon: BALLOON,
  entropy: ENTROPY,
  mem: MEM,
} as const;

export type DeviceKind = keyof typeof specs;

/** Configuration type of a device kind. */
export type ConfigOf<Kind extends DeviceKind> =
  (typeof specs)[Kind] extends DeviceSpec<infer Config> ? Config : never;

export type DeviceConfig = { [Kind in DeviceKind]: ConfigOf<Kind> }[DeviceKind];

/**
 * The specs by kind, for code that treats all devices alike. Pass a spec's functions only configurations from
 * its own schema.
 */
export const SPECS = specs as unknown as Readonly<Record<DeviceKind, DeviceSpec<DeviceConfig>>>;

/** All specs, in slot order. */
export const ALL_SPECS: readonly DeviceSpec<DeviceConfig>[] = Object.values(SPECS);

/** What the sandbox has to allow for these devices. */
export function sandboxNeedsOf(devices: readonly DeviceConfig[]): ReadonlySet<OptionalDevice> {
  return new Set(devices.flatMap((device) => SPECS[device.kind].sandboxNeeds?.(device) ?? []));
}

/** Paths of the Unix sockets that Volt binds for these devices. */
export function socketPathsOf(devices: readonly DeviceConfig[]): string[] {
  return devices.flatMap((device) => SPECS[device.kind].socketPaths?.(device) ?? []);
}
