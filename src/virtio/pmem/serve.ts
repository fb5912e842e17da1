/** Serves persistent memory: a flush request is an fdatasync(2) of its file. */
import { flushFile } from '../../ffi/block-file.ts';
import type { ServeContext } from '../host/serve-device.ts';
import { createTimerEffects } from '../host/timer-effects.ts';
import type { VirtioDevice } from '../transport/device.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { PmemDevice } from './device.ts';

export interface PmemStart {
  /** undefined: a copy-on-write mapping, which is never written back. */
  readonly fd: number | undefined;
  readonly fileBytes: number;
  readonly limits: RateLimits;
}

export function servePmem({ fd, fileBytes, limits }: PmemStart, { events }: ServeContext): VirtioDevice {
  const effects = {
    flush: () => (fd === undefined ? 0 : flushFile(fd)),
    ...createTimerEffects(events),
  };
  return new PmemDevice(effects, fileBytes, limits);
}
