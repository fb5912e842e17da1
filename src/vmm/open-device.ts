/** From a device's configuration to its open files, on the main thread. */
import type { DeviceConfig } from './device-config.ts';
import { openBalloonDevice } from './virtio-balloon.ts';
import { openBlockDevice } from './virtio-block.ts';
import { openConsoleDevice } from './virtio-console.ts';
import { openEntropyDevice } from './virtio-entropy.ts';
import { openTapDevice } from './virtio-net.ts';
import { openUserNetDevice } from './virtio-user-net.ts';
import { openVsockDevice } from './virtio-vsock.ts';
import type { OpenDevice } from './virtio-machine.ts';

/** Throws VoltError 'image' or 'host' that says what is wrong with the device's files. */
export function openDevice(config: DeviceConfig): OpenDevice {
  switch (config.kind) {
    case 'block':
      return openBlockDevice(config);
    case 'entropy':
      return openEntropyDevice(config);
    case 'net':
      return config.tap === undefined ? openUserNetDevice(config) : openTapDevice(config, config.tap);
    case 'vsock':
      return openVsockDevice(config);
    case 'console':
      return openConsoleDevice(config);
    case 'balloon':
      return openBalloonDevice(config);
  }
}
