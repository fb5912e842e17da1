/** From what the main thread opened to a device that runs, on its device worker. */
import type { VirtioDevice } from '../devices/virtio/device.ts';
import type { DeviceServices } from './device-services.ts';
import { createBalloonDevice } from './virtio-balloon.ts';
import { createBlockDevice } from './virtio-block.ts';
import { createConsoleDevice } from './virtio-console.ts';
import { createEntropyDevice } from './virtio-entropy.ts';
import { createTapDevice } from './virtio-net.ts';
import { createUserNetDevice } from './virtio-user-net.ts';
import { createVsockDevice } from './virtio-vsock.ts';
import type { DeviceStart } from './virtio-link.ts';

/** `tell` hears what becomes of the device, for people. */
export function createDevice(
  start: DeviceStart,
  services: DeviceServices,
  tell: (text: string) => void,
): VirtioDevice {
  switch (start.kind) {
    case 'block':
      return createBlockDevice(start, services);
    case 'entropy':
      return createEntropyDevice(start, services);
    case 'tap':
      return createTapDevice(start, services, tell);
    case 'user-net':
      return createUserNetDevice(start, services, tell);
    case 'vsock':
      return createVsockDevice(start, services);
    case 'console':
      return createConsoleDevice(start, services);
    case 'balloon':
      return createBalloonDevice(start, services);
  }
}
