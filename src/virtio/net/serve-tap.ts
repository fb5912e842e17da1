/** Serves a network interface from a tap. */
import { EPOLL } from '../../ffi/epoll.ts';
import type { ServeContext } from '../host/serve-device.ts';
import { createTimerEffects } from '../host/timer-effects.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { NetDevice, type NetSettings } from './device.ts';
import { serveMmds } from './mmds/serve.ts';
import type { MmdsStart } from './mmds/start.ts';
import { serveVhostNet } from './vhost/serve.ts';
import type { VhostStart } from './vhost/start.ts';
import { TapQueues } from './tap-queues.ts';

export interface TapStart {
  readonly link: 'tap';
  readonly fds: readonly number[];
  readonly settings: NetSettings;
  readonly mmds: MmdsStart | undefined;
  /** The kernel serves the packet queues. */
  readonly vhost: VhostStart | undefined;
}

/** Reports once when the tap is deleted. */
export function serveTap({ fds, settings, mmds, vhost }: TapStart, context: ServeContext): VirtioDevice {
  const { events, report } = context;
  const tap = new TapQueues(fds);
  const timers = createTimerEffects(events);
  const ports = mmds ? serveMmds(tap.ports, mmds, timers, (pair) => device.portReadable(pair)) : tap.ports;
  const device: NetDevice = new NetDevice(
    {
      ports,
      setOffloads: (offloads) => tap.setOffloads(offloads),
      setActivePorts: (count) => tap.setActivePorts(count),
      ...timers,
    },
    settings,
  );
  fds.forEach((fd, pair) =>
    // The kernel's back-end waits for packets and room by itself.
    events.watch(fd, (vhost ? 0 : EPOLL.in | EPOLL.out) | EPOLL.edge, (ready) => {
      if (ready & (EPOLL.error | EPOLL.hangUp) && device.setLink(false))
        report('its tap was deleted; the guest continues with its link down');
      if (ready & EPOLL.in) device.portReadable(pair);
      if (ready & EPOLL.out) device.portWritable(pair);
    }),
  );
  return vhost ? serveVhostNet(vhost, fds, device, context) : device;
}
