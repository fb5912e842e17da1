/** Serves the virtio console: each port's socket or file. */
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { ConsoleDevice, type ConsolePort } from './device.ts';
import { ConsolePorts, type ConsolePortStart } from './ports.ts';

export interface ConsoleStart {
  readonly portInfo: readonly ConsolePort[];
  readonly ports: readonly ConsolePortStart[];
}

export function serveConsole({ portInfo, ports }: ConsoleStart, { events }: ServeContext): VirtioDevice {
  const effects = new ConsolePorts(ports, events);
  const device = new ConsoleDevice(portInfo, effects);
  effects.start((port) => device.portReady(port));
  events.atEnd(() => effects.disconnectAll());
  return device;
}
