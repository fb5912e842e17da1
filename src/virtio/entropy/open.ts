/** The entropy device with the host's random numbers behind it. */
import type { VirtioDevice } from '../transport/device.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { ENTROPY_FACTS, EntropyDevice } from './device.ts';
import { fillRandom } from '../../ffi/random.ts';
import type { EntropyConfig } from '../host/spec-registry.ts';
import type { DeviceServices } from '../host/services.ts';
import type { OpenDevice } from '../host/device-set.ts';

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
