/** The entropy device with the host's random numbers behind it. */
import type { VirtioDevice } from '../devices/virtio/device.ts';
import type { RateLimits } from '../devices/virtio/rate-limiter.ts';
import { ENTROPY_FACTS, EntropyDevice } from '../devices/virtio/rng.ts';
import { fillRandom } from '../ffi/random.ts';
import type { EntropyConfig } from './device-config.ts';
import type { DeviceServices } from './device-services.ts';
import type { OpenDevice } from './virtio-machine.ts';

export interface EntropyStart {
  readonly kind: 'entropy';
  readonly limits: RateLimits;
}

export function openEntropyDevice({ limits }: EntropyConfig): OpenDevice {
  return { facts: ENTROPY_FACTS, start: { kind: 'entropy', limits }, blocks: false, close: () => {} };
}

export function createEntropyDevice({ limits }: EntropyStart, services: DeviceServices): VirtioDevice {
  const glue = {
    fill: fillRandom,
    now: () => performance.now(),
    after: (delayMs: number, handler: () => void) => services.after(delayMs, handler),
  };
  return new EntropyDevice(glue, limits);
}
