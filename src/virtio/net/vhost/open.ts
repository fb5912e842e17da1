/** Opens the kernel's back-ends for a tap: one for each pair of queues. */
import { createEventFd } from '../../../ffi/epoll.ts';
import { SyscallError } from '../../../ffi/errno.ts';
import { MAP, Mapping, PROT } from '../../../ffi/mapping.ts';
import { openVhostNet, setVhostFeatures, setVhostLog, vhostFeaturesOf } from '../../../ffi/vhost.ts';
import { PAGE_BYTES } from '../../../machine/address.ts';
import { LOG_ALL_BIT } from '../../vhost-user/regs.ts';
import { writeLogBytes } from '../../vhost-user/write-log.ts';
import { lockWord, unlockWord, VHOST_WORD, type VhostStart } from './start.ts';

const LOG_ALL_MASK = 1 << LOG_ALL_BIT;

export interface OpenVhost {
  readonly start: VhostStart;
  /** Turns the log of written pages on or off, also while the rings run. */
  trackWrites(on: boolean): void;
  close(): void;
}

/** A clause that says why the kernel cannot serve the tap, where it cannot. */
export function openVhost(pairs: number, ramEnd: number): OpenVhost | string {
  using stack = new DisposableStack();
  try {
    const fds = Array.from({ length: pairs }, () => stack.use(openVhostNet()).fd);
    const bytes = Math.ceil(writeLogBytes(ramEnd) / PAGE_BYTES) * PAGE_BYTES;
    const log = stack.use(
      new Mapping({
        bytes,
        prot: PROT.read | PROT.write,
        flags: MAP.private | MAP.anonymous | MAP.noReserve,
        what: 'the log of vhost-net',
      }),
    );
    for (const fd of fds) setVhostLog(fd, log.address);
    const features = vhostFeaturesOf(fds[0]!);
    const errorFd = stack.use(createEventFd()).fd;
    const words = new SharedArrayBuffer(4 * VHOST_WORD.size);
    const owned = stack.move();
    return {
      start: { fds, features, errorFd, words, log: { host: log.address, bytes } },
      trackWrites: (on) => trackWrites(new Int32Array(words), fds, on),
      close: () => owned.dispose(),
    };
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return error.message;
  }
}

function trackWrites(words: Int32Array, fds: readonly number[], on: boolean): void {
  lockWord(words);
  try {
    words[VHOST_WORD.tracks] = on ? 1 : 0;
    if (words[VHOST_WORD.runs] === 0) return;
    const low = words[VHOST_WORD.featuresLow]! | (on ? LOG_ALL_MASK : 0);
    for (const fd of fds) setVhostFeatures(fd, [low >>> 0, words[VHOST_WORD.featuresHigh]! >>> 0]);
  } finally {
    unlockWord(words);
  }
}
