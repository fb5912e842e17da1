/** What a device is given on its worker, for a device that a test serves itself. */
import type { EventSources, ServeContext } from '../../../src/virtio/host/serve-device.ts';

export function createServeContext(
  events: EventSources,
  rest: Partial<Omit<ServeContext, 'events'>> = {},
): ServeContext {
  return { events, ram: [], queueFds: [], callFds: [], report: () => {}, ...rest };
}
