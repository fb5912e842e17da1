/** Opens the balloon: an eventfd through which the main thread announces a new target size to the worker. */
import { createEventFd } from '../../ffi/epoll.ts';
import type { OpenDevice } from '../host/open-device.ts';
import { BalloonControl, PAGES_PER_MIB } from './control.ts';
import { describeBalloon } from './device.ts';
import type { BalloonStart } from './serve.ts';
import type { BalloonConfig } from './spec.ts';
import { createBalloonState } from './state.ts';

export function openBalloon({ mib, deflateOnOom, statsSeconds }: BalloonConfig): OpenDevice<BalloonStart> {
  const pages = mib * PAGES_PER_MIB;
  const state = createBalloonState(pages);
  const wake = createEventFd();
  return {
    description: describeBalloon({ pages, deflateOnOom, statsSeconds }),
    start: { buffer: state.buffer, wakeFd: wake.fd, statsSeconds },
    blocks: false,
    balloon: new BalloonControl(state, wake.fd),
    close: () => wake.close(),
  };
}
