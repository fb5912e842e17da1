/** The socket device: its Unix socket made on the main thread, and the device on its worker. */
import { rmSync } from 'node:fs';
import type { VirtioDevice } from '../transport/device.ts';
import { describeVsock, VsockDevice } from './device.ts';
import type { DeviceServices } from '../host/services.ts';
import { openListeningSocket } from '../host/listening-socket.ts';
import type { OpenDevice } from '../host/device-set.ts';
import type { VsockConfig } from './spec.ts';
import { VsockStreams } from './streams.ts';

export interface VsockStart {
  readonly kind: 'vsock';
  readonly guestCid: number;
  readonly path: string;
  readonly listener: number;
}

/** The guest connects to sockets whose names are this much longer: `_` and ten digits. */
const SUFFIX_BYTES = 11;

/** Throws VoltError 'host' when the socket cannot be made. */
export function openVsockDevice({ guestCid, path }: VsockConfig): OpenDevice {
  const listener = openListeningSocket('--vsock path=', path, SUFFIX_BYTES);
  return {
    facts: describeVsock(guestCid),
    start: { kind: 'vsock', guestCid, path, listener: listener.fd },
    blocks: false,
    close: () => {
      listener.close();
      rmSync(path, { force: true });
    },
  };
}

export function createVsockDevice(
  { guestCid, path, listener }: VsockStart,
  services: DeviceServices,
): VirtioDevice {
  const streams = new VsockStreams(path, listener, services);
  const device = new VsockDevice(guestCid, streams);
  return {
    activate(context) {
      device.activate(context);
      streams.start(device);
    },
    kick: (queue) => device.kick(queue),
    reset() {
      streams.stop();
      device.reset();
    },
  };
}
