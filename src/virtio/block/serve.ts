/** Serves a disk from its file, by system calls or io_uring, or from an overlay over it. */
import { EPOLL } from '../../ffi/epoll.ts';
import { Uring, type UringParams } from '../../ffi/uring.ts';
import type { ServeContext } from '../host/serve-device.ts';
import { createTimerEffects } from '../host/timer-effects.ts';
import type { VirtioDevice } from '../transport/device.ts';
import type { RateLimits } from '../transport/rate-limiter.ts';
import { serveBackEnd, type BackEndStart } from './back-end/serve.ts';
import { releaseBounce } from './bounce.ts';
import { BlockDevice } from './device.ts';
import type { BlockShape } from './description.ts';
import { FileBackend, type FileTraits } from './file-backend.ts';
import { OverlayBackend } from './overlay-backend.ts';
import type { OverlayShape } from './overlay-format.ts';
import { UringBackend } from './uring-backend.ts';

export interface BlockStart {
  readonly link: 'file';
  readonly shape: BlockShape;
  /** The file, or the base image of `overlay`. */
  readonly fd: number;
  readonly overlay:
    { readonly fd: number; readonly shape: OverlayShape; readonly writeThrough: boolean } | undefined;
  /** `Cached`: by io_uring, except writes, which the page cache completes at once. */
  readonly engine: 'Sync' | 'Async' | 'Cached';
  /** undefined: io_uring is not used. */
  readonly ring: UringParams | undefined;
  readonly traits: FileTraits;
  readonly limits: RateLimits;
}

export function serveBlock(start: BlockStart | BackEndStart, context: ServeContext): VirtioDevice {
  if (start.link === 'back-end') return serveBackEnd(start, context);
  const { events } = context;
  const effects = createTimerEffects(events);
  const { fd, overlay, shape, limits } = start;
  events.atEnd(releaseBounce);
  if (overlay) {
    const files = {
      baseFd: fd,
      overlayFd: overlay.fd,
      shape: overlay.shape,
      writeThrough: overlay.writeThrough,
    };
    return new BlockDevice(shape, new OverlayBackend(files), effects, limits);
  }
  const { ring, traits } = start;
  if (!ring) {
    const openBackend = (file: number) => new FileBackend(file, traits);
    return new BlockDevice(shape, openBackend(fd), { ...effects, openBackend }, limits);
  }
  const options = { ...traits, writesBlock: start.engine === 'Cached' };
  const uring = new Uring(ring);
  let backend: UringBackend;
  const openBackend = (file: number) => (backend = new UringBackend(file, uring, options));
  const device = new BlockDevice(shape, openBackend(fd), { ...effects, openBackend }, limits);
  events.atEnd(() => backend[Symbol.dispose]());
  events.watch(uring.fd, EPOLL.in | EPOLL.edge, () => {
    backend.collect();
    device.raiseInterrupts();
  });
  return device;
}
