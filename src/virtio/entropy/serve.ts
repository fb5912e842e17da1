/** Serves the entropy device from getrandom(2). */
import { fillRandom } from '../../ffi/random.ts';
import type { ServeContext } from '../host/serve-device.ts';
import { createTimerEffects } from '../host/timer-effects.ts';
import type { VirtioDevice } from '../transport/device.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { EntropyDevice } from './device.ts';

export interface EntropyStart {
  readonly limits: RateLimits;
}

export function serveEntropy({ limits }: EntropyStart, { events }: ServeContext): VirtioDevice {
  const effects = {
    fill: fillRandom,
    ...createTimerEffects(events),
  };
  return new EntropyDevice(effects, limits);
}
