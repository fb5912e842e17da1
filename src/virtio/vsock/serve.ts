/** Serves the socket device from Unix sockets. */
import type { ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { VsockDevice } from './device.ts';
import { VsockStreams } from './streams.ts';

export interface VsockStart {
  readonly guestCid: number;
  readonly path: string;
  readonly listener: number;
}

export function serveVsock({ guestCid, path, listener }: VsockStart, { events }: ServeContext): VirtioDevice {
  const streams = new VsockStreams(path, listener, events);
  const device = new VsockDevice(guestCid, streams);
  return {
    activate(context) {
      device.activate(context);
      streams.start(device);
    },
    processQueue: (queue) => device.processQueue(queue),
    save: (words) => device.save(words),
    restore: (words) => device.restore(words),
    reset() {
      streams.stop();
      device.reset();
    },
  };
}
