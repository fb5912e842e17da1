/** The balloon, made on the main thread and served on its worker. */
import type { VirtioDevice } from '../transport/device.ts';
import { createBalloonState, viewBalloonState } from './state.ts';
import { BalloonDevice, describeBalloon } from './device.ts';
import { createEventFd, EPOLL } from '../../ffi/epoll.ts';
import { releaseMemory, releaseSharedMemory } from '../../ffi/memory-advice.ts';
import type { BalloonConfig } from './spec.ts';
import { BalloonControl, PAGES_PER_MIB } from './control.ts';
import type { DeviceServices } from '../host/services.ts';
import type { MachineParts, RamFacts } from '../host/link.ts';
import type { OpenDevice } from '../host/device-set.ts';

export interface BalloonStart {
  readonly kind: 'balloon';
  readonly buffer: SharedArrayBuffer;
  readonly wakeFd: number;
  readonly statsSeconds: number;
}

export function openBalloonDevice({ mib, deflateOnOom, statsSeconds }: BalloonConfig): OpenDevice {
  const pages = mib * PAGES_PER_MIB;
  const state = createBalloonState(pages);
  const wake = createEventFd();
  return {
    facts: describeBalloon({ pages, deflateOnOom, statsSeconds }),
    start: { kind: 'balloon', buffer: state.buffer, wakeFd: wake.fd, statsSeconds },
    blocks: false,
    balloon: new BalloonControl(state, wake.fd),
    close: () => wake.close(),
  };
}

export function createBalloonDevice(
  start: BalloonStart,
  services: DeviceServices,
  { ram }: MachineParts,
): VirtioDevice {
  const glue = {
    release: releaseOf(ram),
    after: (delayMs: number, handler: () => void) => services.after(delayMs, handler),
  };
  const device = new BalloonDevice(viewBalloonState(start.buffer), glue, start.statsSeconds);
  services.watch(start.wakeFd, EPOLL.in | EPOLL.edge, () => device.follow());
  return device;
}

/**
 * How pages of `ram` go back to the host. Where RAM is shared it has descriptors, and what has none is persistent
 * memory, which devices see as RAM too: its pages would go from the file.
 */
export function releaseOf(ram: readonly RamFacts[]): (host: number, bytes: number) => void {
  const shared = ram.filter(({ fd }) => fd !== undefined);
  if (shared.length === 0) return releaseMemory;
  return (host, bytes) => {
    if (shared.some((each) => host >= each.host && host + bytes <= each.host + each.bytes))
      releaseSharedMemory(host, bytes);
  };
}
