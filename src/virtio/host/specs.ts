/** Every device that Volt has, by kind, in the order of their slots on the bus. */
import { BALLOON } from '../balloon/spec.ts';
import { BLOCK } from '../block/spec.ts';
import { CONSOLE } from '../console/spec.ts';
import { ENTROPY } from '../entropy/spec.ts';
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
} as const;

export type DeviceKind = keyof typeof specs;

/** The configuration of a device of one kind. */
export type ConfigOf<Kind extends DeviceKind> =
  (typeof specs)[Kind] extends DeviceSpec<infer Config> ? Config : never;

export type DeviceConfig = { [Kind in DeviceKind]: ConfigOf<Kind> }[DeviceKind];

/**
 * The same for whoever treats all devices alike. A spec's functions are only ever given configurations that its own
 * schema made.
 */
export const SPECS = specs as unknown as Readonly<Record<DeviceKind, DeviceSpec<DeviceConfig>>>;

/** In the order of their slots. */
export const ALL_SPECS: readonly DeviceSpec<DeviceConfig>[] = Object.values(SPECS);

/** Unix sockets that Volt binds for these devices. */
export function socketPathsOf(devices: readonly DeviceConfig[]): string[] {
  return devices.flatMap((device) => SPECS[device.kind].socketPaths?.(device) ?? []);
}
