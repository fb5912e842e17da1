/** What a device is given on its worker, for a device that a test serves itself. */
import { DirtyPages } from '../../../src/machine/dirty-pages.ts';
import type { EventSources, ServeContext } from '../../../src/virtio/host/serve-device.ts';

export function createServeContext(
  events: EventSources,
  rest: Partial<Omit<ServeContext, 'events'>> = {},
): ServeContext {
  const dirty = new DirtyPages(0);
  return { events, ram: [], queueFds: [], callFds: [], report: () => {}, dirty, hotplug: undefined, ...rest };
}
