/** From what the main thread opened to a device that runs, on its device worker. */
import type { VirtioDevice } from '../devices/virtio/device.ts';
import type { DeviceServices } from './device-services.ts';
import { createBalloonDevice } from './virtio-balloon.ts';
import { createBlockDevice } from './virtio-block.ts';
import { createConsoleDevice } from './virtio-console.ts';
import { createEntropyDevice } from './virtio-entropy.ts';
import { createTapDevice } from './virtio-net.ts';
import { createPmemDevice } from './virtio-pmem.ts';
import { createVhostDevice } from './virtio-share.ts';
import { createUserNetDevice } from './virtio-user-net.ts';
import { createVsockDevice } from './virtio-vsock.ts';
import type { DeviceStart, MachineParts } from './virtio-link.ts';

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
