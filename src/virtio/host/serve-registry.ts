/** From what the main thread opened to a device that runs, on its device worker. */
import type { VirtioDevice } from '../transport/device.ts';
import type { DeviceServices } from './services.ts';
import { createBalloonDevice } from '../balloon/open.ts';
import { createBlockDevice } from '../block/open.ts';
import { createConsoleDevice } from '../console/open.ts';
import { createEntropyDevice } from '../entropy/open.ts';
import { createTapDevice } from '../net/open.ts';
import { createPmemDevice } from '../pmem/open.ts';
import { createVhostDevice } from '../share/open.ts';
import { createUserNetDevice } from '../net/passt.ts';
import { createVsockDevice } from '../vsock/open.ts';
import type { DeviceStart, MachineParts } from './link.ts';

export function createDevice(
  start: DeviceStart,
  services: DeviceServices,
  parts: MachineParts,
): VirtioDevice {
  switch (start.kind) {
    case 'block':
      return createBlockDevice(start, services);
    case 'entropy':
      return createEntropyDevice(start, services);
    case 'tap':
      return createTapDevice(start, services, parts.tell);
    case 'user-net':
      return createUserNetDevice(start, services, parts.tell);
    case 'vsock':
      return createVsockDevice(start, services);
    case 'console':
      return createConsoleDevice(start, services);
    case 'balloon':
      return createBalloonDevice(start, services, parts);
    case 'pmem':
      return createPmemDevice(start, services);
    case 'vhost-user':
      return createVhostDevice(start, services, parts);
  }
}
