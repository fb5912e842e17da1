/** Opens a network interface: a tap, or passt. */
import type { OpenContext, OpenDevice } from '../host/open-device.ts';
import { openPasst } from './open-passt.ts';
import { openTapDevice } from './open-tap.ts';
import type { NetStart } from './serve.ts';
import type { NetConfig } from './spec.ts';

/** Throws VoltError 'host' when the tap cannot be used or passt is not installed. */
export function openNet(config: NetConfig, { ramEnd }: OpenContext): OpenDevice<NetStart> {
  return config.tap === undefined ? openPasst(config) : openTapDevice(config, config.tap, ramEnd);
}
