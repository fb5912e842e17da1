/** Clock and timers of a device worker, as devices expect them. */
import type { ThrottleEffects } from '../transport/throttle.ts';
import type { EventSources } from './serve-device.ts';

export function createTimerEffects(events: EventSources): ThrottleEffects {
  return {
    now: () => events.now(),
    after: (delayMs, handler) => events.after(delayMs, handler),
  };
}
