/** Serves the balloon: releases the guest's pages to the host. */
import { EPOLL } from '../../ffi/epoll.ts';
import { releaseMemory, releaseSharedMemory } from '../../ffi/memory-advice.ts';
import type { MappedRegion, ServeContext } from '../host/serve-device.ts';
import type { VirtioDevice } from '../transport/device.ts';
import { BalloonDevice } from './device.ts';
import { viewBalloonState } from './state.ts';

export interface BalloonStart {
  readonly buffer: SharedArrayBuffer;
  readonly wakeFd: number;
  readonly statsSeconds: number;
}

export function serveBalloon(start: BalloonStart, { events, ram }: ServeContext): VirtioDevice {
  const effects = {
    release: chooseRelease(ram),
    after: (delayMs: number, handler: () => void) => events.after(delayMs, handler),
  };
  const device = new BalloonDevice(viewBalloonState(start.buffer), effects, start.statsSeconds);
  events.watch(start.wakeFd, EPOLL.in | EPOLL.edge, () => device.updateTarget());
  return device;
}

/**
 * How to release pages of `ram`. Shared RAM has file descriptors; a region without one then is persistent
 * memory, whose pages must not be released: that would punch them out of the file.
 */
export function chooseRelease(ram: readonly MappedRegion[]): (host: number, bytes: number) => void {
  const shared = ram.filter(({ fd }) => fd !== undefined);
  if (shared.length === 0) return releaseMemory;
  return (host, bytes) => {
    if (shared.some((each) => host >= each.host && host + bytes <= each.host + each.bytes))
      releaseSharedMemory(host, bytes);
  };
}
