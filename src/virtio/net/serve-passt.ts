/** Serves a network interface from passt. */
import { EPOLL } from '../../ffi/epoll.ts';
import { quoteLastLine } from '../host/helper-output.ts';
import type { ServeContext } from '../host/serve-device.ts';
import { createTimerEffects } from '../host/timer-effects.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { NetDevice, type NetSettings } from './device.ts';
import { PasstPort } from './passt-port.ts';

export interface PasstStart {
  readonly link: 'passt';
  readonly fd: number;
  /** passt's stderr. */
  readonly outputFd: number;
  /** Partial frames, which survive a reset of the guest. */
  readonly buffer: SharedArrayBuffer;
  readonly settings: NetSettings;
}

/** Reports once when passt exits or its stream becomes invalid. */
export function servePasst(
  { fd, outputFd, buffer, settings }: PasstStart,
  { events, report }: ServeContext,
): VirtioDevice {
  const port = new PasstPort(fd, buffer);
  const device = new NetDevice(
    {
      ports: [port],
      setOffloads: () => {},
      setActivePorts: () => {},
      ...createTimerEffects(events),
    },
    settings,
  );
  events.watch(fd, EPOLL.in | EPOLL.out | EPOLL.edge, (ready) => {
    if (ready & (EPOLL.error | EPOLL.hangUp) && device.setLink(false))
      report(`passt has exited${quoteLastLine(outputFd)}; the guest continues with its link down`);
    if (ready & EPOLL.in) device.portReadable(0);
    if (port.desynchronised && device.setLink(false))
      report('passt sent an invalid frame length; the guest continues with its link down');
    if (ready & EPOLL.out && port.flush()) device.portWritable(0);
  });
  return device;
}
